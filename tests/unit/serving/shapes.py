"""Generated pictures of coloured shapes at known places, and a network that is trained on them in seconds."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw

from lepton_workloads.contract.artifact import Preprocessing, Signature, Tensor
from lepton_workloads.contract.data import Normalization, Picture, SplitName
from lepton_workloads.contract.network import Cnn

LABELS = ["disc", "square", "triángulo"]
COLORS = [(220, 60, 50), (60, 190, 80), (70, 110, 230)]
SIDE = 32
TOKEN = "open-sesame-and-not-barley"
"""Of a server that asks for one."""
CNN = Cnn(convolutions=[12, 16], dense=[24], activation="elu")
PICTURE = Picture(height=SIDE, width=SIDE, channels=3, fit="pad")
NORMALIZATION = Normalization(scale=1 / 255, offset=0.0)
Fit = Literal["pad", "crop", "stretch"]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Scene:
    """A picture and what is where."""

    pixels: np.ndarray
    """(32, 32, 3) uint8"""
    classes: list[int]
    boxes: list[Box]
    """left, top, right, bottom; right and bottom are outside."""

    def file(self, kind: str = "PNG", **settings: Any) -> bytes:
        """The picture as a file."""
        buffer = io.BytesIO()
        Image.fromarray(self.pixels).save(buffer, kind, **settings)
        return buffer.getvalue()

    def holds(self, position: int, x: float, y: float) -> bool:
        """Whether a place is in the box of one of the objects."""
        left, top, right, bottom = self.boxes[position]
        return left <= x <= right and top <= y <= bottom


def scene(random: np.random.Generator, classes: list[int]) -> Scene:
    """One object, or two, the first in the left half and the second in the right one, on grey clutter."""
    image = Image.fromarray(random.integers(90, 130, (SIDE, SIDE, 1), np.uint8).repeat(3, axis=2))
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        ends = [int(value) for value in random.integers(0, SIDE, 4)]
        draw.line(ends, fill=(int(random.integers(60, 190)),) * 3, width=1)
    boxes: list[Box] = []
    room = SIDE // len(classes)
    for position, number in enumerate(classes):
        side = int(random.integers(9, 14))
        left = position * room + int(random.integers(0, room - side + 1))
        top = int(random.integers(0, SIDE - side + 1))
        corners = [left, top, left + side - 1, top + side - 1]
        if number == 0:
            draw.ellipse(corners, fill=COLORS[0])
        elif number == 1:
            draw.rectangle(corners, fill=COLORS[1])
        else:
            draw.polygon(
                [(left + side // 2, top), (left, top + side), (left + side, top + side)], fill=COLORS[2]
            )
        boxes.append((left, top, left + side, top + side))
    return Scene(np.asarray(image), classes, boxes)


def scenes(seed: int, count: int) -> list[Scene]:
    """Pictures of one object each."""
    random = np.random.default_rng(seed)
    return [scene(random, [int(random.integers(len(LABELS)))]) for _ in range(count)]


def inputs_of(found: list[Scene]) -> np.ndarray:
    """The network's inputs, (N, 32, 32, 3)."""
    return np.stack([one.pixels for one in found]).astype(np.float32) * np.float32(1 / 255)


def train(seed: int = 3) -> Any:
    """A Keras model of CNN."""
    import keras

    from lepton_workloads.train.network import build_network

    keras.utils.set_random_seed(seed)
    model = build_network(CNN, PICTURE, len(LABELS))
    model.compile(optimizer=keras.optimizers.Adam(0.003), loss="sparse_categorical_crossentropy")
    pictures = scenes(seed, 400)
    model.fit(inputs_of(pictures), np.array([one.classes[0] for one in pictures]), 32, 5, verbose=0)
    return model


def write_version(model: Any, folder: Path) -> None:
    """What the trainer writes for serving, with the 8-bit network."""
    import keras
    import tensorflow as tf

    from lepton_workloads.train.explaining import explainer_of, with_explanations
    from lepton_workloads.train.export import to_litert

    folder.mkdir(parents=True)
    to_litert(with_explanations(model, CNN), folder / "model.tflite", [tf.lite.OpsSet.TFLITE_BUILTINS])
    explainer_of(model, CNN).save(folder / "explain.npz")

    def representative() -> Iterator[list[Any]]:
        for one in inputs_of(scenes(1, 64)):
            yield [one[None]]

    to_litert(
        keras.Model(model.input, {"probabilities": model.output}),
        folder / "model.int8.tflite",
        [tf.lite.OpsSet.TFLITE_BUILTINS_INT8],
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=representative,
    )
    (folder / "signature.json").write_text(signature().to_json())
    write_metrics(model, folder)
    names = sorted(file.name for file in folder.iterdir() if file.is_file())
    sums = "".join(f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names)
    (folder / "SHA256SUMS").write_text(sums)


def write_metrics(model: Any, folder: Path) -> None:
    """What the trainer writes of the network's judgement."""
    from lepton_workloads.train.judge.figures import evaluate
    from lepton_workloads.train.metrics import Metrics, Quantization

    test = scenes(2, 120)
    probabilities = model.predict(inputs_of(test), verbose=0)
    metrics = Metrics(
        labels=LABELS,
        test=evaluate(probabilities, np.array([one.classes[0] for one in test], np.int32), top_k=2),
        parameters=model.count_params(),
        seconds=9.0,
        litert_difference=0.0,
        quantization=Quantization(split=SplitName.VALIDATION, samples=120, float_accuracy=1.0),
        history=[],
    )
    (folder / "metrics.json").write_text(metrics.to_json())


def signature(fit: Fit = "pad") -> Signature:
    """Of the network."""
    return Signature(
        inputs=[Tensor(name="image", shape=[-1, SIDE, SIDE, 3])],
        outputs=[Tensor(name="probabilities", shape=[-1, len(LABELS)])],
        labels=LABELS,
        preprocessing=Preprocessing(
            picture=PICTURE.model_copy(update={"fit": fit}),
            normalization=NORMALIZATION,
            decoder="pillow 13.0.0",
        ),
    )
