"""What is served equals Keras on the same picture file, whatever the format and whichever way it comes.

The network is built and exported as after a training, for colour and for grey. The inputs of Keras are what preparation
makes of the file; where the file has the network's size they are made by Pillow's own functions as well.
"""

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from lepton_workloads.contract.artifact import Preprocessing, Signature, Tensor
from lepton_workloads.contract.data import Normalization, Picture
from lepton_workloads.contract.network import Cnn
from lepton_workloads.decode import DECODER, decode_picture, normalize
from tests.unit.serving.support import TASK, Process

LABELS = ["a", "b", "c", "d", "e"]
NORMALIZATION = Normalization(scale=1 / 127.5, offset=-1.0)
FRAMES = [
    Picture(height=16, width=24, channels=3, fit="pad"),
    Picture(height=16, width=24, channels=1, fit="crop"),
]
TOLERANCE = 1e-5


@dataclass
class Served:
    """A running server, the network that it serves, and its frame."""

    process: Process
    network: Any
    frame: Picture

    def keras(self, pixels: list[np.ndarray]) -> np.ndarray:
        """The network's own answers to pictures as uint8 pixels (height, width, channels)."""
        answers: np.ndarray = self.network(normalize(np.stack(pixels), NORMALIZATION)).numpy()
        return answers


@pytest.fixture(scope="module", params=FRAMES, ids=["colour", "grey"])
def exact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Keras and the server with the same network."""
    import keras

    from lepton_workloads.train.export import export
    from lepton_workloads.train.network import INPUT, OUTPUT, build_network

    frame: Picture = request.param
    keras.utils.set_random_seed(5)
    cnn = Cnn(convolutions=[6, 8], dense=[16])
    network = build_network(cnn, frame, len(LABELS))
    for weights in network.weights:  # far from uniform, so that other pixels give other answers
        weights.assign(weights * 2.0)
    root = tmp_path_factory.mktemp("exact")
    folder = root / "lepton" / "model"
    folder.mkdir(parents=True)
    export(network, cnn, folder)
    signature = Signature(
        inputs=[Tensor(name=INPUT, shape=[-1, frame.height, frame.width, frame.channels])],
        outputs=[Tensor(name=OUTPUT, shape=[-1, len(LABELS)])],
        labels=LABELS,
        preprocessing=Preprocessing(picture=frame, normalization=NORMALIZATION, decoder=DECODER),
    )
    (folder / "signature.json").write_text(signature.to_json())
    process = Process(root, LEPTON_TASK=TASK.model_copy(update={"max_request_bytes": 1_000_000}).to_json())
    try:
        yield Served(process.wait_ready(), keras.models.load_model(folder / "model.keras"), frame)
    finally:
        process.kill()


def scene(width: int, height: int) -> Image.Image:
    """Soft colours with hard edges on them."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    channels = [128 + 120 * np.sin(x / width * a + y / height * b) for a, b in ((5, 1), (2, 7), (9, 3))]
    image = Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse((width * 0.1, height * 0.2, width * 0.5, height * 0.7), fill=(250, 30, 10))
    draw.rectangle((width * 0.6, height * 0.1, width * 0.95, height * 0.5), fill=(10, 200, 240))
    return image


def file(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(image: Image.Image, kind: str, orientation: int, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return file(image, kind, exif=exif, **options)


def seen_through(image: Image.Image) -> Image.Image:
    alpha = np.linspace(0, 255, image.width, dtype=np.uint8)
    image = image.convert("RGBA")
    image.putalpha(Image.fromarray(np.tile(alpha, (image.height, 1))))
    return image


@cache
def files(width: int, height: int) -> dict[str, bytes]:
    """Files of the formats and kinds that there are."""
    image = scene(width, height)
    grey, palette, clear = image.convert("L"), image.convert("P"), seen_through(image)
    other = ImageOps.invert(image)
    return {
        "JPEG": file(image, "JPEG", quality=90),
        "JPEG progressive": file(image, "JPEG", quality=60, progressive=True),
        "JPEG grey": file(grey, "JPEG"),
        "JPEG CMYK": file(image.convert("CMYK"), "JPEG"),
        **{f"JPEG orientation {n}": turned(image, "JPEG", n, quality=95) for n in range(2, 9)},
        "PNG": file(image, "PNG"),
        "PNG grey": file(grey, "PNG"),
        "PNG 1 bit": file(image.convert("1"), "PNG"),
        "PNG 16 bits": file(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), "PNG"),
        "PNG palette": file(palette, "PNG"),
        "PNG palette, one clear": file(palette, "PNG", transparency=7),
        "PNG alpha": file(clear, "PNG"),
        "PNG grey and alpha": file(clear.convert("LA"), "PNG"),
        "PNG orientation 6": turned(image, "PNG", 6),
        "WebP": file(image, "WEBP", quality=80),
        "WebP exact": file(image, "WEBP", lossless=True),
        "WebP alpha": file(clear, "WEBP", lossless=True, exact=True),
        "WebP orientation 8": turned(image, "WEBP", 8, lossless=True),
        "WebP moving": file(image, "WEBP", save_all=True, append_images=[other], lossless=True),
        "BMP": file(image, "BMP"),
        "BMP palette": file(palette, "BMP"),
        "BMP grey": file(grey, "BMP"),
        "GIF": file(image, "GIF"),
        "GIF moving": file(image, "GIF", save_all=True, append_images=[other, image]),
        "GIF clear": file(palette, "GIF", transparency=7),
    }


SIZES = {"of the frame": (24, 16), "large": (400, 267), "upright": (90, 200), "small": (7, 5)}
WAYS = ["classify", "form", "v1", "v1 columns", "v2 JSON", "v2 binary"]


def ask(served: Process, way: str, data: bytes) -> np.ndarray:
    """Probabilities by the order of labels."""
    text = base64.b64encode(data).decode()
    one = {"name": "image", "datatype": "BYTES", "shape": [1]}
    headers: dict[str, str] = {}
    path = "/v2/models/digits/infer"
    body: Any
    if way == "classify":
        path, body = "/classify", data
    elif way == "form":
        path, headers = "/classify", {"Content-Type": "multipart/form-data; boundary=XyZ"}
        head = b'--XyZ\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        body = head + data + b"\r\n--XyZ--\r\n"
    elif way == "v1":
        path, body = "/v1/models/digits:predict", json.dumps({"instances": [{"b64": text}]})
    elif way == "v1 columns":
        path, body = "/v1/models/digits:predict", json.dumps({"inputs": {"image": [{"b64": text}]}})
    elif way == "v2 JSON":
        body = json.dumps({"inputs": [{**one, "data": [text]}]})
    else:
        packed = len(data).to_bytes(4, "little") + data
        head = json.dumps({"inputs": [{**one, "parameters": {"binary_data_size": len(packed)}}]}).encode()
        headers, body = {"Inference-Header-Content-Length": str(len(head))}, head + packed
    answer = served.ask("POST", path, body, headers)
    assert answer.status == 200, answer.body
    content = answer.json()
    if path == "/classify":
        by_index = {one["index"]: one["probability"] for one in content["predictions"]}
        return np.array([by_index[index] for index in range(len(LABELS))])
    if way.startswith("v1"):
        return np.array((content.get("predictions") or content.get("outputs"))[0])
    return np.array(content["outputs"][0]["data"])


@pytest.mark.parametrize("size", SIZES)
def test_the_served_answer_is_that_of_keras(exact: Served, size: str) -> None:
    sent = files(*SIZES[size])
    expected = exact.keras([decode_picture(data, exact.frame) for data in sent.values()])
    for way in WAYS:
        answers = np.array([ask(exact.process, way, data) for data in sent.values()])
        differences = np.abs(answers - expected).max(axis=1)
        assert (differences <= TOLERANCE).all(), (way, dict(zip(sent, differences, strict=True)))
    assert np.ptp(expected, axis=0).max() > 0.01  # the network tells these pictures apart


def plainly(data: bytes, channels: int) -> np.ndarray:
    """Pixels by Pillow's own functions, without a resize."""
    with Image.open(io.BytesIO(data)) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
        pixels = np.asarray(image.convert("RGB").convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def test_files_of_the_networks_size_need_no_more_than_pillow(exact: Served) -> None:
    chosen = {}
    upright, lying = (
        files(exact.frame.width, exact.frame.height),
        files(exact.frame.height, exact.frame.width),
    )
    for name in upright:
        data = lying[name] if name.rpartition(" ")[2] in tuple("5678") else upright[name]
        if name == "PNG 16 bits" or (exact.frame.channels == 1 and name.startswith("JPEG")):
            continue  # 16 bits are scaled, which Pillow doesn't; libjpeg itself makes grey of JPEGs
        chosen[name] = data
    assert len(chosen) >= 15
    expected = exact.keras([plainly(data, exact.frame.channels) for data in chosen.values()])
    answers = np.array([ask(exact.process, "classify", data) for data in chosen.values()])
    differences = np.abs(answers - expected).max(axis=1)
    assert (differences <= TOLERANCE).all(), dict(zip(chosen, differences, strict=True))


def test_pixels_of_a_file_are_answered_as_the_file(exact: Served) -> None:
    """UINT8 and normalised numbers of the decoded picture are the picture."""
    data = turned(scene(400, 267), "JPEG", 6)
    pixels = decode_picture(data, exact.frame)
    expected = ask(exact.process, "classify", data)
    for datatype, values in (("UINT8", pixels), ("FP32", normalize(pixels, NORMALIZATION))):
        one = {"name": "image", "datatype": datatype, "shape": [1, *pixels.shape], "data": values.tolist()}
        content = {"inputs": [{**one, "data": [values.tolist()]}]}
        answer = exact.process.predict(content, "/v2/models/digits/infer").json()
        assert np.array_equal(answer["outputs"][0]["data"], expected)
