"""Class activation maps over HTTP: those of Grad-CAM, on the objects, upright over the picture."""

import base64
import io
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import pytest
from PIL import Image

from tests.unit.serving.shapes import LABELS, SIDE, Fit, Scene, inputs_of, scene, scenes
from tests.unit.serving.support import Answer, Client, Process, picture
from tests.unit.workloads.grad_cam import by_backward_pass

EXPLAIN = "/v1/models/shapes:explain"
Serve = Callable[..., Process]


def ask(client: Client, body: bytes, query: str = "") -> Answer:
    """Explains a picture file."""
    return client.ask("POST", f"/explain?{query}", body, {"Content-Type": "image/png"})


def explanations(client: Client, instances: Any, **fields: Any) -> list[dict[str, Any]]:
    answer = client.predict({"instances": instances, **fields}, EXPLAIN)
    assert answer.status == 200, answer.body
    found = answer.json()
    assert list(found) == ["explanations"]
    return found["explanations"]


class Form:
    """A body of multipart/form-data."""

    def __init__(self, fields: dict[str, bytes], files: list[bytes]) -> None:
        head = b'--cut\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
        parts = [head % (name.encode(), b"", value) for name, value in fields.items()]
        parts += [head % (b"file", b'; filename="a.png"', data) for data in files]
        self.body = b"".join(parts) + b"--cut--\r\n"

    def ask(self, client: Client) -> Answer:
        kind = {"Content-Type": "multipart/form-data; boundary=cut"}
        return client.ask("POST", "/explain", self.body, kind)


def raw(explanation: dict[str, Any]) -> np.ndarray:
    """The map as it was before its maximum became 1."""
    values = np.array(explanation["map"])
    assert list(values.shape) == explanation["shape"]
    assert values.min() >= 0
    assert values.max() in (pytest.approx(1), 0)
    return values * explanation["maximum"]


def hottest(explanation: dict[str, Any]) -> tuple[float, float]:
    """Where in the 32 x 32 pixels the map is largest: x, y."""
    values = np.array(explanation["map"])
    row, column = np.unravel_index(values.argmax(), values.shape)
    return (column + 0.5) * SIDE / values.shape[1], (row + 0.5) * SIDE / values.shape[0]


def b64(one: Scene) -> dict[str, str]:
    return {"b64": base64.b64encode(one.file()).decode()}


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("number", range(len(LABELS)))
def test_a_map_is_that_of_the_backward_pass(
    serve_shapes: Serve, shapes_network: Any, number: int, precision: str
) -> None:
    server = serve_shapes(precision=precision)
    inputs = inputs_of(scenes(11, 4))
    predictions = server.predict({"instances": inputs.tolist()}, "/v1/models/shapes:predict").json()[
        "predictions"
    ]
    seen = 0
    for one, prediction, found in zip(
        inputs, predictions, explanations(server, inputs.tolist(), **{"class": number}), strict=True
    ):
        expected = by_backward_pass(shapes_network, "convolution_1", one, number)
        np.testing.assert_allclose(raw(found), expected, atol=1e-4)
        assert (found["index"], found["label"]) == (number, LABELS[number])
        assert found["probability"] == pytest.approx(prediction[number], abs=1e-6)
        seen += bool(expected.any())
    assert seen  # zeros would agree with anything


def test_the_predicted_class_is_explained_unless_another_is_asked_for(shapes_server: Process) -> None:
    found = scenes(12, 6)
    inputs = inputs_of(found).tolist()
    for one, explanation in zip(found, explanations(shapes_server, inputs), strict=True):
        assert explanation["index"] == one.classes[0]
        assert explanation["probability"] > 0.5
    by_label = explanations(shapes_server, inputs[:1], **{"class": LABELS[2]})
    assert by_label == explanations(shapes_server, inputs[:1], **{"class": 2})
    assert by_label == explanations(shapes_server, inputs[:1], **{"class": "2"})
    assert by_label[0]["index"] == 2
    assert explanations(shapes_server, inputs[:1], **{"class": None})[0]["index"] == found[0].classes[0]


def test_pictures_and_numbers_and_both_routes_agree(shapes_server: Process) -> None:
    found = scenes(13, 3)
    by_numbers = explanations(shapes_server, inputs_of(found).tolist())
    assert explanations(shapes_server, [b64(one) for one in found]) == by_numbers
    version = shapes_server.get("/").json()["version_number"]
    path = f"/v1/models/shapes/versions/{version}:explain"
    answer = shapes_server.predict({"instances": [b64(one) for one in found]}, path)
    assert answer.json() == {"explanations": by_numbers}
    for one, expected in zip(found, by_numbers, strict=True):
        of_picture = ask(shapes_server, one.file(), "format=json").json()
        assert of_picture.pop("model") == "shapes"
        assert of_picture.pop("version") == "0123456789ab"
        assert of_picture.pop("picture") == {"width": 32, "height": 32}
        assert of_picture.pop("frame") == {"left": 0, "top": 0, "right": 32, "bottom": 32}
        assert of_picture == expected


def test_the_map_points_at_the_object(shapes_server: Process) -> None:
    found = scenes(14, 96)
    hits = 0
    for start in range(0, len(found), 16):
        part = found[start : start + 16]
        for one, explanation in zip(part, explanations(shapes_server, inputs_of(part).tolist()), strict=True):
            hits += one.holds(0, *hottest(explanation))
    assert hits / len(found) >= 0.95


def test_with_two_objects_the_map_points_at_the_one_that_is_asked_for(shapes_server: Process) -> None:
    random = np.random.default_rng(15)
    pairs = [scene(random, random.permutation(3)[:2].tolist()) for _ in range(40)]
    asked = other = 0
    for one in pairs:
        for position in (0, 1):
            place = hottest(
                explanations(shapes_server, inputs_of([one]).tolist(), **{"class": one.classes[position]})[0]
            )
            asked += one.holds(position, *place)
            other += one.holds(1 - position, *place)
    assert asked / 80 >= 0.75
    assert other / 80 <= 0.2


def test_the_picture_says_what_it_shows(shapes_server: Process) -> None:
    one = scenes(16, 1)[0]
    answer = ask(shapes_server, one.file())
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    number = one.classes[0]
    assert answer.headers["lepton-index"] == str(number)
    expected = ask(shapes_server, one.file(), "format=json").json()
    assert float(answer.headers["lepton-probability"]) == pytest.approx(expected["probability"], abs=1e-6)
    assert float(answer.headers["lepton-maximum"]) == pytest.approx(expected["maximum"], rel=1e-5)
    other = ask(shapes_server, one.file(), f"class={quote(LABELS[2])}")
    assert unquote(other.headers["lepton-label"]) == LABELS[2]
    assert other.headers["lepton-index"] == "2"


def test_a_form_may_hold_the_picture_and_what_is_asked_for(shapes_server: Process) -> None:
    one = scenes(20, 1)[0].file()
    whole = Form({"class": b"1", "format": b"json"}, [one])
    assert whole.ask(shapes_server).json() == ask(shapes_server, one, "class=1&format=json").json()
    for wrong, told in [
        (Form({"klass": b"1"}, [one]), "'klass'"),
        (Form({}, [one, one]), "one picture"),
        (Form({"size": b"big"}, [one]), "size"),
    ]:
        answer = wrong.ask(shapes_server)
        assert answer.status == 400
        assert told in answer.error


def spread(one: Scene, fit: Fit) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """A wide picture, whose frame shows the scene where that is possible, and the object's box in it."""
    scale = 10
    pixels = Image.fromarray(one.pixels).resize((SIDE * scale, SIDE * scale), Image.Resampling.NEAREST)
    left, top, right, bottom = (side * scale for side in one.boxes[0])
    if fit == "stretch":
        return pixels.resize((SIDE * scale * 2, SIDE * scale)), (left * 2, top, right * 2, bottom)
    wide = Image.new("RGB", (SIDE * scale * 2, SIDE * scale), (110, 110, 110))
    shift = SIDE * scale // 2 if fit == "crop" else 0
    wide.paste(pixels, (shift, 0))
    return wide, (left + shift, top, right + shift, bottom)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_the_map_lies_upright_over_the_object(serve_shapes: Serve, fit: Fit, orientation: int) -> None:
    server = serve_shapes(fit)
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    hits = 0
    found = scenes(17, 12)
    for one in found:
        upright, (left, top, right, bottom) = spread(one, fit)
        stored = upright.transpose(turns[orientation]) if orientation in turns else upright
        exif = Image.Exif()
        exif[0x0112] = orientation
        buffer = io.BytesIO()
        stored.save(buffer, "JPEG", quality=95, exif=exif)
        answer = ask(server, buffer.getvalue(), f"size=320&class={one.classes[0]}")
        shown = Image.open(io.BytesIO(answer.body))
        assert shown.size == (320, 160)
        before = np.asarray(upright.resize(shown.size, Image.Resampling.BILINEAR)).astype(float)
        # The strongest colour is a light yellow: much red and green.
        gain = (np.asarray(shown).astype(float) - before)[:, :, :2].sum(axis=2)
        row, column = np.unravel_index(gain.argmax(), gain.shape)
        hits += left <= column * 2 <= right and top <= row * 2 <= bottom
        if fit == "crop":  # what the network does not see is dark, and has no colour
            unseen = np.asarray(shown)[:, :70].astype(int)
            assert unseen.max() < 75
            assert np.ptp(unseen, axis=2).max() < 12
    assert hits >= 11


@pytest.mark.parametrize(
    ("fit", "frame"),
    [
        ("pad", {"left": 0, "top": -160, "right": 640, "bottom": 480}),
        ("crop", {"left": 160, "top": 0, "right": 480, "bottom": 320}),
        ("stretch", {"left": 0, "top": 0, "right": 640, "bottom": 320}),
    ],
)
def test_numbers_tell_where_the_map_lies(serve_shapes: Serve, fit: Fit, frame: dict[str, int]) -> None:
    answer = ask(serve_shapes(fit), picture("JPEG", size=(640, 320)), "format=json").json()
    assert answer["picture"] == {"width": 640, "height": 320}
    assert answer["frame"] == pytest.approx(frame)


@pytest.mark.parametrize(
    ("size", "query", "expected"),
    [
        ((640, 320), "", (256, 128)),
        ((100, 200), "", (100, 200)),
        ((100, 200), "size=1024", (512, 1024)),
        ((640, 320), "size=1", (1, 1)),
        ((3, 600), "", (1, 256)),
        ((600, 1), "size=300", (300, 1)),
    ],
)
@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_the_aspect_is_kept_and_the_size_bounded(
    serve_shapes: Serve, fit: Fit, size: tuple[int, int], query: str, expected: tuple[int, int]
) -> None:
    answer = ask(serve_shapes(fit), picture("PNG", size=size), query)
    assert answer.status == 200, answer.body
    assert Image.open(io.BytesIO(answer.body)).size == expected


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_every_format_is_shown(shapes_server: Process, kind: str) -> None:
    for mode in ("L", "RGB"):
        buffer = io.BytesIO()
        Image.open(io.BytesIO(scenes(18, 1)[0].file())).convert(mode).save(buffer, kind)
        answer = ask(shapes_server, buffer.getvalue())
        shown = Image.open(io.BytesIO(answer.body))
        assert (shown.mode, shown.size) == ("RGB", (32, 32))


def test_only_pictures_count_as_rendered(shapes_server: Process) -> None:
    name = "lepton_server_explain_render_seconds_count"
    before = shapes_server.metric(name)
    one = scenes(19, 1)[0]
    ask(shapes_server, one.file())
    ask(shapes_server, one.file(), "format=json")
    explanations(shapes_server, inputs_of([one]).tolist())
    assert shapes_server.metric(name) == before + 1


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("class=cat", ["class", "'cat'", *LABELS]),
        ("class=3", ["class", "3", *LABELS]),
        ("class=-1", ["class", *LABELS]),
        ("class=", ["class", *LABELS]),
        ("class=%00%ff", ["class", *LABELS]),
        ("format=gif", ["format", "png or json"]),
        ("size=0", ["size", "1 to 1024"]),
        ("size=1025", ["size", "1 to 1024"]),
        ("size=1e2", ["size", "1 to 1024"]),
    ],
)
def test_a_wrong_question_is_400_and_says_what_is_possible(
    shapes_server: Process, query: str, told: list[str]
) -> None:
    answer = ask(shapes_server, scenes(1, 1)[0].file(), query)
    assert answer.status == 400
    for word in told:
        assert word in answer.error


@pytest.mark.parametrize("wanted", ["cat", 3, -1, True, 1.0, [0], {"index": 0}])
def test_an_unknown_class_in_json_is_400(shapes_server: Process, wanted: Any) -> None:
    content = {"instances": inputs_of(scenes(1, 1)).tolist(), "class": wanted}
    answer = shapes_server.predict(content, EXPLAIN)
    assert answer.status == 400
    assert answer.error.startswith("class: ")
    assert LABELS[2] in answer.error


def test_broken_bodies_are_refused_by_their_field(shapes_server: Process) -> None:
    whole = scenes(1, 1)[0].file()
    assert ask(shapes_server, whole[:200]).status == 400
    assert ask(shapes_server, b"no picture").status == 415
    assert ask(shapes_server, b"").status == 400
    one = inputs_of(scenes(1, 1)).tolist()
    for content, told in [
        ({"instances": one * 17}, "at most 16"),
        ({"instances": []}, "instances"),
        ({"instances": [[1, 2]]}, "instances"),
        ({"class": 1}, "instances"),
        ({"instances": [{"b64": base64.b64encode(whole[:200]).decode()}]}, "instances[0]"),
        (b"{", "JSON"),
    ]:
        answer = shapes_server.predict(content, EXPLAIN)
        assert answer.status == 400
        assert told in answer.error


def test_numbers_without_a_finite_map_are_refused(shapes_server: Process) -> None:
    huge = (inputs_of(scenes(1, 1)) * np.float32(3e38)).tolist()
    answer = shapes_server.predict({"instances": huge}, EXPLAIN)
    assert answer.status == 400
    assert "too large" in answer.error


def test_an_unknown_model_or_version_is_404(shapes_server: Process) -> None:
    body = json.dumps({"instances": []}).encode()
    for path in ("/v1/models/other:explain", "/v1/models/shapes/versions/7:explain"):
        answer = shapes_server.predict(body, path)
        assert answer.status == 404
        assert "shapes" in answer.error


def test_a_version_without_explanations_is_501(served: Process) -> None:
    assert ask(served, picture()).status == 501
    answer = served.predict({"instances": np.zeros((1, 6, 8, 3)).tolist()}, "/v1/models/digits:explain")
    assert answer.status == 501
    assert "explain.npz" in answer.error
