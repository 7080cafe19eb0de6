"""Makes the network and the requests' contents: `python -m bench.serving.making FOLDER` leaves `FOLDER/made`.

Lepton's own processes prepare generated pictures and train on them, so what is served was exported by the training.
"""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.serving.network import CLASSES, SHAPE, Network
from lepton_workloads.contract.artifact import INT8_FILE, LITERT_FILE, SIGNATURE_FILE, Signature
from lepton_workloads.decode import decode_picture, normalize

EACH = 100
"""Pictures of a class."""
CANDIDATES = 256
"""Inputs of which the one is taken that tells float and 8 bits apart best."""
LARGE = (640, 480)
QUALITY = 85

Floats = npt.NDArray[np.float32]


def main() -> None:
    """Prepare, train, and write down what is asked and what is the answer."""
    folder = Path(sys.argv[1])
    pod, network = folder / "pod", Network(folder / "made")
    paint(pod / "lepton/source/pictures")
    for name in ("datasets", "models", "checkpoints"):
        (pod / "lepton" / name).mkdir(parents=True)
    (pod / "tmp").mkdir()
    run(pod, "prepare", prepare_task())
    [dataset] = (path for path in (pod / "lepton/datasets").iterdir() if not path.name.startswith("."))
    (pod / "lepton/dataset").symlink_to(dataset)
    run(pod, "train", train_task(dataset.name))
    [version] = (path for path in (pod / "lepton/models").iterdir() if not path.name.startswith("."))
    network.model.parent.mkdir(parents=True)
    shutil.copytree(version, network.model)
    write_requests(network)


def paint(folder: Path) -> None:
    """Pictures of ten classes: each has colours of its own at a few places, much disturbed."""
    random = np.random.default_rng(7)
    means = random.integers(80, 176, (CLASSES, 4, 4, 3))
    for label, mean in enumerate(means):
        (folder / f"class-{label}").mkdir(parents=True)
        for number in range(EACH):
            pixels = np.clip(mean + random.normal(0, 60, mean.shape), 0, 255).astype(np.uint8)
            picture = Image.fromarray(pixels).resize((SHAPE[2], SHAPE[1]), Image.Resampling.BICUBIC)
            picture.save(folder / f"class-{label}/{number:03d}.png")


def prepare_task() -> dict[str, Any]:
    """For `lepton_workloads.prepare`."""
    picture = {"height": SHAPE[1], "width": SHAPE[2], "channels": SHAPE[3]}
    return {
        "dataset": "bench/bench",
        "datasetUid": "bench",
        "jobKey": "bench",
        "sourcePath": "pictures",
        "picture": picture,
    }


def train_task(key: str) -> dict[str, Any]:
    """For `lepton_workloads.train`: the network that a manifest without sizes describes."""
    return {
        "job": "bench/bench",
        "jobUid": "bench",
        "attempt": 1,
        "workers": 1,
        "peers": ["localhost"],
        "datasetName": "bench",
        "datasetKey": key,
        "training": {"epochs": 2, "batchSize": 50},
        "image": "bench",
    }


def run(pod: Path, module: str, task: dict[str, Any]) -> None:
    """One of Lepton's processes, with its folders below `pod`.

    Raises:
        SystemExit: it failed; its output was printed.
    """
    environment = {
        **os.environ,
        "LEPTON_ROOT": str(pod),
        "LEPTON_TASK": json.dumps(task),
        "LEPTON_REPORT_PORT": "0",
        "LEPTON_TERMINATION_FILE": str(pod / "termination"),
    }
    ended = subprocess.run([sys.executable, "-m", f"lepton_workloads.{module}"], env=environment, check=False)
    if ended.returncode:
        raise SystemExit(f"lepton_workloads.{module} ended with {ended.returncode}")


def write_requests(network: Network) -> None:
    """The tensor, the pictures, and the answers to them."""
    signature = Signature.model_validate_json((network.model / SIGNATURE_FILE).read_bytes())
    preprocessing = signature.preprocessing
    floats, integers = network.model / LITERT_FILE, network.model / INT8_FILE
    output = signature.outputs[0].name
    inputs = np.random.default_rng(11).random((CANDIDATES, *SHAPE[1:]), np.float32)
    by_float, by_integer = answers(floats, inputs, output), answers(integers, inputs, output)
    chosen = int(np.abs(by_float - by_integer).max(axis=1).argmax())
    (network.folder / "tensor.bin").write_bytes(inputs[chosen].astype("<f4").tobytes())
    expected = {"float32": by_float[chosen], "int8": by_integer[chosen]}
    for name, size in (("small", (SHAPE[2], SHAPE[1])), ("large", LARGE)):
        data = photograph(size)
        (network.folder / f"{name}.jpg").write_bytes(data)
        pixels = decode_picture(data, preprocessing.picture)
        expected[name] = answers(floats, normalize(pixels[None], preprocessing.normalization), output)[0]
    text = json.dumps({name: found.tolist() for name, found in expected.items()})
    (network.folder / "expected.json").write_text(text)


def photograph(size: tuple[int, int]) -> bytes:
    """A JPEG file with large and small things in it."""
    random = np.random.default_rng(13)
    coarse = random.integers(0, 256, (12, 16, 3)).astype(np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)).astype(np.float64)
    fine = np.clip(pixels + random.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(fine).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def answers(file: Path, inputs: Floats, output: str) -> Floats:
    """What LiteRT makes of inputs (N, height, width, channels)."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file), num_threads=1)
    interpreter.allocate_tensors()
    index = interpreter.get_input_details()[0]["index"]
    found = interpreter.get_signature_runner().get_output_details()[output]["index"]
    rows = []
    for one in inputs:
        interpreter.set_tensor(index, one[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(found)[0].copy())
    return np.array(rows, np.float32)


if __name__ == "__main__":
    main()
