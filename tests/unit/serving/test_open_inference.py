"""The Open Inference Protocol over real HTTP, JSON tensors; the client is the standard library's."""

import base64
import json
from typing import Any

import numpy as np
import pytest

from tests.unit.serving.support import (
    LABELS,
    SHAPE,
    TASK,
    Answer,
    FakeEngine,
    InProcess,
    Process,
    litert,
    picture,
    png_input,
    until,
)

VERSION = str(TASK.version_number)
RNG = np.random.default_rng(3)
BATCH = RNG.normal(size=(3, *SHAPE)).astype(np.float32)
ONE = BATCH[:1]
INFER = "/v2/models/digits/infer"


def numbers(batch: np.ndarray = ONE, **changes: Any) -> dict[str, Any]:
    """An input of the protocol."""
    one = {
        "name": "pixels",
        "datatype": "FP32",
        "shape": list(batch.shape),
        "data": batch.reshape(-1).tolist(),
    }
    return {name: value for name, value in {**one, **changes}.items() if value is not ...}


def files(*pictures: bytes, **changes: Any) -> dict[str, Any]:
    texts = [base64.b64encode(one).decode() for one in pictures]
    return numbers(datatype="BYTES", shape=[len(texts)], data=texts, **changes)


def asked(one: Any, **fields: Any) -> dict[str, Any]:
    return {"inputs": [one], **fields}


def infer(served: Process, content: Any, path: str = INFER) -> Answer:
    return served.predict(content, path)


def probabilities(answer: Answer) -> np.ndarray:
    """The only output of an answer without extensions, checked."""
    assert answer.status == 200, answer.body
    content = answer.json()
    assert (content["model_name"], content["model_version"]) == ("digits", VERSION)
    (output,) = content["outputs"]
    assert (output["name"], output["datatype"]) == ("probabilities", "FP32")
    assert len(output["data"]) == np.prod(output["shape"])
    return np.array(output["data"], np.float32).reshape(output["shape"])


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_the_server_tells_its_name_version_and_extensions(served: Process, path: str) -> None:
    content = served.get(path).json()
    assert content["name"] == "lepton"
    assert isinstance(content["version"], str)
    assert content["extensions"] == ["binary_tensor_data", "classification"]


@pytest.mark.parametrize("end", ["", f"/versions/{VERSION}", f"/versions/{TASK.version}"])
def test_metadata_holds_the_signature(served: Process, end: str) -> None:
    assert served.get("/v2/models/digits" + end).json() == {
        "name": "digits",
        "versions": [VERSION],
        "platform": "litert_tflite",
        "inputs": [{"name": "pixels", "datatype": "FP32", "shape": [-1, *SHAPE]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, len(LABELS)]}],
    }


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"live": True, "ready": True}),
        ("/v2/models/digits/ready", {"name": "digits", "ready": True}),
        (f"/v2/models/digits/versions/{VERSION}/ready", {"name": "digits", "ready": True}),
    ],
)
def test_health(served: Process, path: str, content: dict) -> None:
    answer = served.get(path)
    assert (answer.status, answer.json()) == (200, content)


def test_those_who_watch_are_told_source_id_and_files() -> None:
    server = InProcess(lambda: FakeEngine(lambda batch: np.full((len(batch), 4), 0.25, np.float32)))
    seen: list[Any] = []
    try:
        until(server.ready, "the server")
        server.model.watch(seen.append)
        content = asked(files(picture()), id="42", parameters={"source": "camera 7"})
        header = {"Lepton-Source": "the header", "X-Request-Id": "its id"}
        for body in (content, asked(numbers(BATCH))):
            assert server.ask("POST", INFER, json.dumps(body).encode(), header).status == 200
        first, second = seen
        assert (first.caller.source, first.caller.request_id) == ("camera 7", "42")
        assert list(first.pictures) == [picture()]
        assert (second.caller.source, second.caller.request_id) == ("the header", "its id")
        assert (list(second.pictures), second.inputs.shape) == ([], BATCH.shape)
    finally:
        server.stop()


def test_nothing_is_ready_while_draining() -> None:
    server = InProcess(lambda: FakeEngine(lambda batch: np.full((len(batch), 4), 0.25, np.float32)))
    try:
        until(server.ready, "the server")
        server.model.draining = True
        for path in ("/v2/health/ready", "/v2/models/digits/ready"):
            answer = server.get(path)
            assert (answer.status, answer.json()["ready"]) == (503, False)
            assert "shutting down" in answer.json()["error"]
        assert server.get("/v2/health/live").json() == {"live": True}
    finally:
        server.stop()


@pytest.mark.parametrize("data", [BATCH.reshape(-1).tolist(), BATCH.tolist()], ids=["flat", "nested"])
@pytest.mark.parametrize("path", [INFER, f"/v2/models/digits/versions/{VERSION}/infer"])
def test_numbers_are_answered_as_by_the_bare_engine(served: Process, data: list, path: str) -> None:
    answer = infer(served, asked(numbers(BATCH, data=data)), path)
    assert np.array_equal(probabilities(answer), litert(BATCH))
    assert "id" not in answer.json()


def test_double_precision_is_taken(served: Process) -> None:
    answer = infer(served, asked(numbers(BATCH, datatype="FP64")))
    assert np.array_equal(probabilities(answer), litert(BATCH))


@pytest.mark.parametrize("nested", [False, True])
def test_pixels_are_normalised_by_the_signature(served: Process, nested: bool) -> None:
    pixels = RNG.integers(0, 256, (2, *SHAPE), dtype=np.uint8)
    data = pixels.tolist() if nested else pixels.reshape(-1).tolist()
    answer = infer(served, asked(numbers(pixels, datatype="UINT8", data=data)))
    inputs = pixels.astype(np.float32) * np.float32(1 / 127.5) + np.float32(-1.0)
    assert np.array_equal(probabilities(answer), litert(inputs))


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_picture_files_are_decoded_and_normalised(served: Process, shape: list[int]) -> None:
    one = files(picture("PNG", 1), picture("PNG", 2))
    data = [[text] for text in one["data"]] if len(shape) == 2 else one["data"]
    answer = infer(served, asked({**one, "shape": shape, "data": data}))
    assert np.array_equal(probabilities(answer), litert(np.stack([png_input(1), png_input(2)])))


@pytest.mark.parametrize("name", ["42", "", 'dög \\ "x" true'])
def test_the_id_comes_back(served: Process, name: str) -> None:
    content = infer(served, asked(numbers(), id=name)).json()
    assert content["id"] == name


def test_the_output_may_be_named_and_other_parameters_do_not_matter(served: Process) -> None:
    content = asked(
        numbers(parameters={"content_type": "np", "some": True}),
        outputs=[{"name": "probabilities", "parameters": {"binary_data": False}}],
        parameters={"priority": 1, "source": "camera 7", "binary_data_output": True},
        model_name="digits",
    )
    assert np.array_equal(probabilities(infer(served, content)), litert(ONE))


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (3, 3), (99, 4)])
def test_classification_names_the_most_probable(served: Process, count: int, expected: int) -> None:
    output = {"name": "probabilities", "parameters": {"classification": count}}
    content = infer(served, asked(numbers(BATCH), outputs=[output])).json()
    (output,) = content["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [3, expected])
    rows = np.array(output["data"]).reshape(3, expected)
    for row, answer in zip(rows, litert(BATCH), strict=True):
        best = np.argsort(-answer)[:expected]
        for text, index in zip(row, best, strict=True):
            value, number, label = text.split(":")
            assert (int(number), label) == (index, LABELS[index])
            assert np.float32(value) == answer[index]


@pytest.mark.parametrize("end", ["/infer", "", "/ready"])
@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/v2/models/cats", "no model 'cats'"),
        ("/v2/models/cats/versions/7", "no model 'cats'"),
        ("/v2/models/digits/versions/7", "no version '7'"),
        ("/v2/models/digits/versions/latest", "no version 'latest'"),
    ],
)
def test_unknown_names_are_404_and_named(served: Process, path: str, end: str, text: str) -> None:
    answer = infer(served, asked(numbers()), path + end) if end == "/infer" else served.get(path + end)
    assert answer.status == 404
    assert text in answer.error
    assert f"this server has digits, version {VERSION}" in answer.error


def with_value(value: Any) -> list[Any]:
    data: list[Any] = ONE.reshape(-1).tolist()
    data[7] = value
    return data


def without(name: str) -> dict[str, Any]:
    return numbers(**{name: ...})


def output(**fields: Any) -> list[dict[str, Any]]:
    return [{"name": "probabilities", **fields}]


PIXELS = {"datatype": "UINT8"}
BAD_BODIES: dict[str, tuple[Any, str]] = {
    "no JSON": (b"{", "not JSON"),
    "empty": (b"", "not JSON"),
    "NaN": (b'{"inputs": [NaN]}', "not JSON"),
    "deep": (b"[" * 100_000, "not JSON"),
    "list": ([], "must be a JSON object"),
    "v1": ({"instances": ONE.tolist()}, "inputs must be a list"),
    "inputs type": ({"inputs": {}}, "inputs must be a list"),
    "no inputs": ({"inputs": []}, "inputs must be a list of one"),
    "two inputs": ({"inputs": [numbers(), numbers()]}, "inputs must be a list of one"),
    "input type": (asked(7), "inputs must be a list of one object"),
    "id type": (asked(numbers(), id=7), "id must be a text"),
    "id length": (asked(numbers(), id="x" * 2000), "id must be a text"),
    "no name": (asked(without("name")), "inputs[0].name must be 'pixels'"),
    "wrong name": (asked(numbers(name="picture")), "inputs[0].name must be 'pixels', not 'picture'"),
    "no datatype": (asked(without("datatype")), "inputs[0].datatype must be"),
    "datatype": (asked(numbers(datatype="INT32")), "inputs[0].datatype must be"),
    "lower datatype": (asked(numbers(datatype="fp32")), "inputs[0].datatype must be"),
    "datatype type": (asked(numbers(datatype=["FP32"])), "inputs[0].datatype must be"),
    "FP16": (asked(numbers(datatype="FP16")), "inputs[0].datatype FP16 is for binary data"),
    "no shape": (asked(without("shape")), "inputs[0].shape must be"),
    "shape type": (asked(numbers(shape=3)), "inputs[0].shape must be"),
    "shape of texts": (asked(numbers(shape=["1"])), "inputs[0].shape must be"),
    "shape of booleans": (asked(numbers(shape=[True, *SHAPE])), "inputs[0].shape must be"),
    "fraction": (asked(numbers(shape=[1.0, *SHAPE])), "inputs[0].shape must be"),
    "negative": (asked(numbers(shape=[-1, *SHAPE])), "inputs[0].shape must be"),
    "empty shape": (asked(numbers(shape=[])), "inputs[0].shape is [], it must be [N, 6, 8, 3]"),
    "no batch": (asked(numbers(shape=list(SHAPE))), "inputs[0].shape is [6, 8, 3]"),
    "transposed": (asked(numbers(shape=[1, 8, 6, 3])), "inputs[0].shape is [1, 8, 6, 3]"),
    "none of them": (asked(numbers(shape=[0, *SHAPE], data=[])), "inputs[0].shape is empty"),
    "too many": (asked(numbers(shape=[10**15, *SHAPE])), "at most 58254"),
    "no data": (asked(without("data")), "inputs[0].data must be a list"),
    "data type": (asked(numbers(data="1")), "inputs[0].data must be a list"),
    "empty data": (asked(numbers(data=[])), "inputs[0].data holds 0 values"),
    "too few": (asked(numbers(data=[1.0])), "inputs[0].data holds 1 values"),
    "more than the shape": (asked(numbers(BATCH, shape=[1, *SHAPE])), "inputs[0].data holds 432 values"),
    "nested too many": (asked(numbers(data=BATCH.tolist())), "inputs[0].data is ragged"),
    "half nested": (asked(numbers(data=[ONE.reshape(-1).tolist()])), "inputs[0].data is ragged"),
    "ragged": (asked(numbers(data=[[*ONE.tolist()[0][:-1], []]])), "inputs[0].data is ragged"),
    "text": (asked(numbers(data=with_value("1.5"))), "inputs[0].data holds something that is not a number"),
    "boolean": (asked(numbers(data=with_value(True))), "inputs[0].data holds something that is not a number"),
    "null": (asked(numbers(data=with_value(None))), "inputs[0].data holds something that is not a number"),
    "object": (asked(numbers(data=with_value({}))), "inputs[0].data holds something that is not a number"),
    "list inside": (
        asked(numbers(data=with_value([1]))),
        "inputs[0].data holds something that is not a number",
    ),
    "large": (asked(numbers(data=with_value(1e39))), "inputs[0].data holds a number that is too large"),
    "no finite answer": (
        asked(numbers(np.full((1, *SHAPE), 3e38))),
        "inputs[0].data: the network has no finite",
    ),
    "pixel 256": (
        asked(numbers(**PIXELS, data=[256] * 144)),
        "inputs[0].data holds something that is not a whole",
    ),
    "pixel -1": (asked(numbers(**PIXELS, data=[-1] * 144)), "whole number from 0 to 255"),
    "pixel 0.5": (asked(numbers(**PIXELS, data=[0.5] * 144)), "whole number from 0 to 255"),
    "pixel true": (asked(numbers(**PIXELS, data=[True] * 144)), "whole number from 0 to 255"),
    "files of a shape": (asked(numbers(datatype="BYTES")), "inputs[0].shape is [1, 6, 8, 3], it must be [N]"),
    "files too many": (asked({**files(picture()), "shape": [2]}), "inputs[0].data holds 1 elements"),
    "file type": (asked({**files(picture()), "data": [7]}), "inputs[0].data[0] must be a picture file"),
    "nested file": (asked({**files(b""), "data": [["x"]]}), "inputs[0].data[0] must be a picture file"),
    "no base64": (asked({**files(b""), "data": ["?"]}), "inputs[0].data[0] is not base64"),
    "no ASCII": (asked({**files(b""), "data": ["ä"]}), "inputs[0].data[0] is not base64"),
    "empty file": (asked(files(b"")), "inputs[0].data[0] can't be used: the file is empty"),
    "no picture": (asked(files(picture(), b"text")), "inputs[0].data[1] can't be used"),
    "cut picture": (asked(files(picture(size=(99, 99))[:3000])), "inputs[0].data[0] can't be used"),
    "parameters": (asked(numbers(), parameters=[]), "parameters must be an object"),
    "parameter": (asked(numbers(), parameters={"x": {}}), "parameters.x must be"),
    "source type": (asked(numbers(), parameters={"source": 7}), "parameters.source must be"),
    "source": (asked(numbers(), parameters={"source": "a\nb"}), "parameters.source must be"),
    "binary_data_output": (
        asked(numbers(), parameters={"binary_data_output": 1}),
        "parameters.binary_data_output",
    ),
    "input parameters": (asked(numbers(parameters=1)), "inputs[0].parameters must be an object"),
    "shared memory": (
        asked(without("data") | {"parameters": {"shared_memory_region": "x"}}),
        "inputs[0].parameters.shared_memory_region: shared memory is not possible",
    ),
    "outputs type": (asked(numbers(), outputs={}), "outputs must be a list"),
    "two outputs": (asked(numbers(), outputs=output() * 2), "outputs must be a list of one"),
    "output type": (asked(numbers(), outputs=["probabilities"]), "outputs must be a list of one object"),
    "output name": (
        asked(numbers(), outputs=[{"name": "logits"}]),
        "outputs[0].name must be 'probabilities'",
    ),
    "output parameters": (asked(numbers(), outputs=output(parameters=[])), "outputs[0].parameters must be"),
    "binary_data": (
        asked(numbers(), outputs=output(parameters={"binary_data": "yes"})),
        "outputs[0].parameters.binary_data must be true or false",
    ),
    "classification 0": (
        asked(numbers(), outputs=output(parameters={"classification": 0})),
        "outputs[0].parameters.classification must be a whole number from 1",
    ),
    "classification": (
        asked(numbers(), outputs=output(parameters={"classification": True})),
        "outputs[0].parameters.classification must be a whole number from 1",
    ),
    "size without bytes": (
        asked(without("data") | {"parameters": {"binary_data_size": 576}}),
        "inputs[0].parameters.binary_data_size is 576, but 0 bytes follow the JSON",
    ),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_bodies_are_400_and_say_where(served: Process, name: str) -> None:
    body, text = BAD_BODIES[name]
    answer = infer(served, body)
    assert answer.status == 400, answer.body
    assert text in answer.error
    assert infer(served, asked(numbers())).status == 200


def test_a_hidden_boolean_is_found(served: Process) -> None:
    """Texts with escapes and keys that occur twice don't lead the quick look for booleans astray."""
    good = json.dumps(asked(numbers(data=with_value(True)), id="x"))
    for body in (
        good.replace('"x"', '"\\u0075\\u0073"'),
        good.replace('{"inputs"', '{"id": "us", "inputs"'),
        good.replace('{"inputs"', '{"inputs": [true], "inputs"'),
    ):
        answer = infer(served, body.encode())
        assert answer.status == 400
        assert "not a number" in answer.error


@pytest.mark.parametrize("kind", ["image/png", "multipart/form-data; boundary=x"])
def test_a_picture_as_body_is_415_and_sent_to_classify(served: Process, kind: str) -> None:
    answer = served.ask("POST", INFER, picture(), {"Content-Type": kind})
    assert answer.status == 415
    assert "/classify" in answer.error


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("GET", INFER, "POST"), ("POST", "/v2", "GET, HEAD"), ("PUT", "/v2/models/digits", "GET, HEAD")],
)
def test_a_wrong_method_is_405(served: Process, method: str, path: str, allow: str) -> None:
    answer = served.ask(method, path, b"")
    assert (answer.status, answer.headers["allow"]) == (405, allow)
    assert method in answer.error
