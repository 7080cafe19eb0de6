"""Upload of picture files."""

import io

import numpy as np
import pytest
from PIL import Image

from lepton_workloads.decode import decode_picture, normalize
from tests.unit.serving.support import LABELS, SIGNATURE, TASK, Process, litert, picture, png_input


def expected(data: bytes) -> np.ndarray:
    preprocessing = SIGNATURE.preprocessing
    pixels = decode_picture(data, preprocessing.picture)
    return litert(normalize(pixels, preprocessing.normalization)[None])[0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("size", [(8, 6), (123, 77)])
def test_every_format_gets_the_probabilities_of_the_engine(
    served: Process, kind: str, size: tuple[int, int]
) -> None:
    data = picture(kind, seed=11, size=size)
    answer = served.ask("POST", "/classify", data)
    assert answer.status == 200, answer.body
    content = answer.json()
    assert (content["model"], content["version"]) == (TASK.name, TASK.version)
    predictions = content["predictions"]
    assert sorted(p["index"] for p in predictions) == list(range(len(LABELS)))
    probabilities = expected(data)
    for prediction in predictions:
        assert prediction["label"] == LABELS[prediction["index"]]
        assert np.float32(prediction["probability"]) == probabilities[prediction["index"]]
    assert [p["probability"] for p in predictions] == sorted(
        (p["probability"] for p in predictions), reverse=True
    )


@pytest.mark.parametrize("size", [(128, 128), (129, 128), (3000, 2000)])
def test_a_small_file_may_be_a_large_picture(served: Process, size: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 30, 90)).save(buffer, "PNG")
    data = buffer.getvalue()
    assert len(data) < 64 * 1024
    (best,) = served.ask("POST", "/classify?top=1", data).json()["predictions"]
    assert np.float32(best["probability"]) == expected(data).max()


def test_the_normalisation_is_that_of_the_training(served: Process) -> None:
    best = served.ask("POST", "/classify?top=1", picture("PNG", 4)).json()["predictions"]
    probabilities = litert(png_input(4)[None])[0]
    assert best == [
        {
            "label": LABELS[int(probabilities.argmax())],
            "index": int(probabilities.argmax()),
            "probability": pytest.approx(float(probabilities.max()), abs=1e-7),
        }
    ]


@pytest.mark.parametrize(("top", "count"), [("1", 1), ("3", 3), ("4", 4), ("999", 4)])
def test_top_says_how_many(served: Process, top: str, count: int) -> None:
    assert len(served.ask("POST", f"/classify?top={top}", picture()).json()["predictions"]) == count


@pytest.mark.parametrize("top", ["0", "-1", "x", "", "1.5", "%D9%A3", "9999999999999"])
def test_a_wrong_top_is_400(served: Process, top: str) -> None:
    answer = served.ask("POST", f"/classify?top={top}", picture())
    assert answer.status == 400
    assert "top" in answer.error


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"this is text", {}, 415),
        (b"\x00" * 100, {"Content-Type": "image/png"}, 415),
        (b'{"instances": []}', {"Content-Type": "application/json"}, 415),
        (b"--x", {"Content-Type": "multipart/form-data; boundary=x"}, 400),
        (b"--x", {"Content-Type": "multipart/mixed; boundary=x"}, 415),
        (picture("JPEG", size=(200, 200))[:2000], {}, 400),
        (picture("PNG", size=(200, 200))[:2000], {}, 400),
        (b"GIF89a", {}, 400),
        (b"", {}, 400),
        (picture(), {"Content-Encoding": "gzip"}, 415),
    ],
)
def test_what_is_no_picture_is_refused_with_a_sentence(
    served: Process, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = served.ask("POST", "/classify", body, headers)
    assert answer.status == status, answer.body
    assert len(answer.error) > 20


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(served: Process) -> None:
    bomb = bytearray(picture("PNG"))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2  # width and height in the header
    answer = served.ask("POST", "/classify", bytes(bomb))
    assert answer.status == 400


@pytest.mark.parametrize(
    "kind", ["application/octet-stream", "image/png", "application/x-www-form-urlencoded"]
)
def test_usual_content_types_are_taken(served: Process, kind: str) -> None:
    assert served.ask("POST", "/classify", picture(), {"Content-Type": kind}).status == 200
