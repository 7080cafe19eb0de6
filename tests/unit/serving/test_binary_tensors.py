"""Raw bytes in requests and answers: by hand, and by Triton's own client."""

import json
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.unit.serving.support import LABELS, SHAPE, TASK, Answer, Process, litert, picture, png_input

RNG = np.random.default_rng(5)
BATCH = RNG.normal(size=(3, *SHAPE)).astype(np.float32)
INFER = "/v2/models/digits/infer"


def ask(
    served: Process, raw: bytes, header: str | None = None, document: dict | None = None, **changes: Any
) -> Answer:
    """A request whose only input is `raw`; `changes` are of the input, `...` leaves a field out."""
    one: dict[str, Any] = {
        "name": "pixels",
        "datatype": "FP32",
        "shape": list(BATCH.shape),
        "parameters": {"binary_data_size": len(raw)},
        **changes,
    }
    one = {name: value for name, value in one.items() if value is not ...}
    text = json.dumps({"inputs": [one], **(document or {})}).encode()
    headers = {"Content-Type": "application/octet-stream"}
    if header != "":
        headers["Inference-Header-Content-Length"] = str(len(text)) if header is None else header
    return served.ask("POST", INFER, text + raw, headers)


def split(answer: Answer) -> tuple[dict, bytes]:
    """JSON and bytes of an answer."""
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    assert int(answer.headers["content-length"]) == len(answer.body)
    return json.loads(answer.body[:length]), answer.body[length:]


@pytest.mark.parametrize("space", ["", " ", "  ", "   "])
def test_bytes_are_answered_as_by_the_bare_engine_wherever_they_begin(served: Process, space: str) -> None:
    answer = ask(served, BATCH.tobytes(), document={"id": space})
    assert answer.headers["content-type"] == "application/json"
    (output,) = answer.json()["outputs"]
    assert np.array_equal(np.array(output["data"], np.float32).reshape(output["shape"]), litert(BATCH))


@pytest.mark.parametrize(
    "wanted",
    [
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}]},
    ],
)
def test_the_answer_is_bytes_where_they_are_asked_for(served: Process, wanted: dict) -> None:
    document, data = split(ask(served, BATCH.tobytes(), document={"id": "7", **wanted}))
    assert document == {
        "model_name": "digits",
        "model_version": str(TASK.version_number),
        "id": "7",
        "outputs": [
            {
                "name": "probabilities",
                "datatype": "FP32",
                "shape": [3, len(LABELS)],
                "parameters": {"binary_data_size": len(data)},
            }
        ],
    }
    assert np.array_equal(np.frombuffer(data, "<f4").reshape(3, -1), litert(BATCH))


def test_json_numbers_may_have_an_answer_of_bytes(served: Process) -> None:
    answer = ask(
        served,
        b"",
        data=BATCH.tolist(),
        parameters=...,
        document={"parameters": {"binary_data_output": True}},
    )
    assert np.array_equal(np.frombuffer(split(answer)[1], "<f4").reshape(3, -1), litert(BATCH))


def test_a_body_of_many_packets_is_read_whole(served: Process) -> None:
    many = RNG.normal(size=(300, *SHAPE)).astype(np.float32)
    answer = ask(served, many.tobytes(), shape=list(many.shape))
    data = np.array(answer.json()["outputs"][0]["data"], np.float32)
    assert np.array_equal(data.reshape(300, -1), litert(many))


def packed(*elements: bytes) -> bytes:
    return b"".join(len(one).to_bytes(4, "little") + one for one in elements)


FULL = BATCH.tobytes()
NAN = np.where(np.arange(BATCH.size).reshape(BATCH.shape) == 5, np.nan, BATCH).astype(np.float32).tobytes()
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no header": ({"raw": FULL, "header": ""}, "Inference-Header-Content-Length is needed"),
    "header 0": ({"raw": FULL, "header": "0"}, "not JSON"),
    "header no number": ({"raw": FULL, "header": "x"}, "Inference-Header-Content-Length must be"),
    "header negative": ({"raw": FULL, "header": "-1"}, "Inference-Header-Content-Length must be"),
    "header too large": ({"raw": FULL, "header": "9999999"}, "the body has only"),
    "header huge": ({"raw": FULL, "header": "9" * 30}, "Inference-Header-Content-Length must be"),
    "header too small": ({"raw": FULL, "header": "20"}, "not JSON"),
    "no size": ({"raw": FULL, "parameters": {}}, "inputs[0].parameters.binary_data_size is missing"),
    "size": (
        {"raw": FULL, "parameters": {"binary_data_size": len(FULL) - 4}},
        "inputs[0].parameters.binary_data_size is 1724, but 1728 bytes follow",
    ),
    "negative size": ({"raw": FULL, "parameters": {"binary_data_size": -1}}, "binary_data_size is -1"),
    "size type": ({"raw": FULL, "parameters": {"binary_data_size": "8"}}, "must be a whole number of bytes"),
    "size boolean": (
        {"raw": FULL, "parameters": {"binary_data_size": True}},
        "must be a whole number of bytes",
    ),
    "cut": ({"raw": FULL[:-1]}, "the binary data of inputs[0] has 1727 bytes"),
    "more": ({"raw": FULL + b"1234"}, "the binary data of inputs[0] has 1732 bytes, FP32"),
    "other datatype": ({"raw": FULL, "datatype": "FP64"}, "FP64 of shape [3, 6, 8, 3] is 3456"),
    "shape": ({"raw": FULL, "shape": [2, *SHAPE]}, "FP32 of shape [2, 6, 8, 3] is 1152"),
    "NaN": ({"raw": NAN}, "the binary data of inputs[0] holds NaN"),
    "FP64 too large": (
        {"raw": np.full(BATCH.shape, 1e300).tobytes(), "datatype": "FP64"},
        "too large for float32",
    ),
    "integers": ({"raw": FULL, "datatype": "INT32"}, "inputs[0].datatype must be"),
    "file cut": (
        {"raw": packed(b"abc")[:-1], "datatype": "BYTES", "shape": [1]},
        "element 0 ends behind the data",
    ),
    "no file": ({"raw": b"", "datatype": "BYTES", "shape": [1]}, "element 0 ends behind the data"),
    "half a length": ({"raw": b"\0\0", "datatype": "BYTES", "shape": [1]}, "element 0 ends behind the data"),
    "file of 4 GB": (
        {"raw": b"\xff" * 9, "datatype": "BYTES", "shape": [1]},
        "element 0 ends behind the data",
    ),
    "files too many": (
        {"raw": packed(b"a", b"b"), "datatype": "BYTES", "shape": [1]},
        "5 bytes follow the 1",
    ),
    "no picture": (
        {"raw": packed(picture(), b"text"), "datatype": "BYTES", "shape": [2]},
        "inputs[0].data[1] can't be used",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_bytes_are_400_and_say_where(served: Process, name: str) -> None:
    arguments, text = BAD[name]
    arguments = dict(arguments)
    answer = ask(served, arguments.pop("raw"), **arguments)
    assert answer.status == 400, answer.body
    assert text in answer.error
    assert ask(served, FULL).status == 200


def test_data_in_both_places_are_refused(served: Process) -> None:
    text = json.dumps(
        {
            "inputs": [
                {
                    "name": "pixels",
                    "datatype": "FP32",
                    "shape": list(BATCH.shape),
                    "data": BATCH.tolist(),
                    "parameters": {"binary_data_size": len(FULL)},
                }
            ]
        }
    ).encode()
    answer = served.ask("POST", INFER, text + FULL, {"Inference-Header-Content-Length": str(len(text))})
    assert answer.status == 400
    assert "inputs[0] has both data and parameters.binary_data_size" in answer.error


@pytest.fixture
def client(served: Process) -> Any:
    with triton.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
        yield client


def triton_input(values: np.ndarray, datatype: str, binary: bool = True) -> Any:
    one = triton.InferInput("pixels", list(values.shape), datatype)
    one.set_data_from_numpy(values, binary_data=binary)
    return one


def test_triton_client_sees_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", str(TASK.version_number))
    assert not client.is_model_ready("cats")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata("digits")["inputs"][0]["shape"] == [-1, *SHAPE]


@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("binary_output", [True, False])
def test_triton_client_gets_the_engines_answers(client: Any, binary_input: bool, binary_output: bool) -> None:
    answer = client.infer(
        "digits",
        [triton_input(BATCH, "FP32", binary_input)],
        outputs=[triton.InferRequestedOutput("probabilities", binary_data=binary_output)],
        request_id="42",
        model_version=str(TASK.version_number),
        parameters={"source": "camera 7"},
    )
    assert np.array_equal(answer.as_numpy("probabilities"), litert(BATCH))
    assert answer.get_response()["id"] == "42"


@pytest.mark.parametrize(
    ("values", "datatype"),
    [
        (BATCH.astype(np.float64), "FP64"),
        (BATCH.astype(np.float16), "FP16"),
        (RNG.integers(0, 256, BATCH.shape, dtype=np.uint8), "UINT8"),
    ],
)
def test_triton_client_may_send_other_datatypes(client: Any, values: np.ndarray, datatype: str) -> None:
    answer = client.infer("digits", [triton_input(values, datatype)]).as_numpy("probabilities")
    inputs = values.astype(np.float32)
    if datatype == "UINT8":
        inputs = inputs * np.float32(1 / 127.5) + np.float32(-1.0)
    assert np.array_equal(answer, litert(inputs))


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_triton_client_sends_picture_files(client: Any, shape: tuple[int, ...]) -> None:
    pictures = np.array([picture("PNG", 1), picture("PNG", 2)], np.object_).reshape(shape)
    answer = client.infer("digits", [triton_input(pictures, "BYTES")]).as_numpy("probabilities")
    assert np.array_equal(answer, litert(np.stack([png_input(1), png_input(2)])))


@pytest.mark.parametrize("binary", [True, False])
def test_triton_client_asks_for_classes(client: Any, binary: bool) -> None:
    wanted = triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)
    found = client.infer("digits", [triton_input(BATCH, "FP32")], outputs=[wanted]).as_numpy("probabilities")
    assert found.shape == (3, 2)
    texts = [text.decode() if isinstance(text, bytes) else text for text in found[:, 0]]
    best = litert(BATCH).argmax(axis=1)
    assert [text.split(":")[1:] for text in texts] == [[str(index), LABELS[index]] for index in best]


def test_triton_client_is_told_what_is_wrong(client: Any) -> None:
    with pytest.raises(InferenceServerException, match=r"inputs\[0\]\.shape is \[3, 144\]"):
        client.infer("digits", [triton_input(BATCH.reshape(3, -1), "FP32")])
