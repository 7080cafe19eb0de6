"""TensorFlow Serving's REST protocol over real HTTP."""

import base64
import json

import numpy as np
import pytest

from tests.unit.serving.support import LABELS, SHAPE, TASK, Process, litert, picture, png_input

VERSION = TASK.version_number
RNG = np.random.default_rng(3)
BATCH = RNG.normal(size=(3, *SHAPE)).astype(np.float32)
ONE = np.zeros(SHAPE).tolist()


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


@pytest.mark.parametrize(
    ("content_sent", "key"),
    [
        ({"instances": BATCH.tolist()}, "predictions"),
        ({"instances": [{"pixels": one} for one in BATCH.tolist()]}, "predictions"),
        ({"inputs": BATCH.tolist()}, "outputs"),
        ({"inputs": {"pixels": BATCH.tolist()}}, "outputs"),
        ({"signature_name": "serving_default", "instances": BATCH.tolist()}, "predictions"),
    ],
)
def test_numbers_are_answered_as_by_the_bare_engine(served: Process, content_sent: dict, key: str) -> None:
    answer = served.predict(content_sent)
    assert answer.status == 200, answer.body
    content = answer.json()
    assert list(content) == [key]
    assert np.array_equal(np.array(content[key], np.float32), litert(BATCH))


@pytest.mark.parametrize("form", ["instances", "inputs", "named instances", "named inputs"])
def test_picture_files_are_decoded_and_normalised_by_the_signature(served: Process, form: str) -> None:
    pictures = [b64(picture("PNG", seed)) for seed in (1, 2)]
    content, key = {
        "instances": ({"instances": pictures}, "predictions"),
        "inputs": ({"inputs": pictures}, "outputs"),
        "named instances": ({"instances": [{"pixels": one} for one in pictures]}, "predictions"),
        "named inputs": ({"inputs": {"pixels": pictures}}, "outputs"),
    }[form]
    answer = served.predict(content)
    assert answer.status == 200, answer.body
    expected = litert(np.stack([png_input(1), png_input(2)]))
    assert np.array_equal(np.array(answer.json()[key], np.float32), expected)


def test_numbers_and_the_same_picture_give_the_same_answer(served: Process) -> None:
    numbers = served.predict({"instances": [png_input(5).tolist()]}).json()
    assert numbers == served.predict({"instances": [b64(picture("PNG", 5))]}).json()


def test_integers_are_numbers(served: Process) -> None:
    ones = np.ones((1, *SHAPE), int).tolist()
    answer = served.predict({"instances": ones})
    assert np.array_equal(np.array(answer.json()["predictions"], np.float32), litert(np.ones((1, *SHAPE))))


def test_a_body_of_many_packets_is_read_whole(served: Process) -> None:
    many = RNG.normal(size=(40, *SHAPE)).round(4)
    answer = served.predict({"instances": many.tolist()})
    assert np.array_equal(np.array(answer.json()["predictions"], np.float32), litert(many))


@pytest.mark.parametrize("path", ["/v1/models/digits", f"/v1/models/digits/versions/{VERSION}"])
def test_status_says_that_the_version_is_available(served: Process, path: str) -> None:
    assert served.get(path).json() == {
        "model_version_status": [
            {
                "version": str(VERSION),
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }


def test_metadata_holds_the_signature(served: Process) -> None:
    content = served.get("/v1/models/digits/metadata").json()
    assert content["model_spec"] == {"name": "digits", "signature_name": "", "version": str(VERSION)}
    signature = content["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    pixels = signature["inputs"]["pixels"]
    assert pixels["dtype"] == "DT_FLOAT"
    assert [dim["size"] for dim in pixels["tensor_shape"]["dim"]] == ["-1", *map(str, SHAPE)]
    assert [d["size"] for d in signature["outputs"]["probabilities"]["tensor_shape"]["dim"]] == ["-1", "4"]


def test_predict_takes_the_version_in_the_path(served: Process) -> None:
    answer = served.predict({"instances": [ONE]}, f"/v1/models/digits/versions/{VERSION}:predict")
    assert answer.status == 200
    assert len(answer.json()["predictions"][0]) == len(LABELS)


@pytest.mark.parametrize("end", [":predict", "", "/metadata"])
@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/v1/models/cats", 404, "Latest(cats)"),
        ("/v1/models/cats/versions/7", 404, "Specific(cats, 7)"),
        ("/v1/models/digits/versions/7", 404, "Specific(digits, 7)"),
        ("/v1/models/digits/versions/x7", 400, "no whole number"),
        ("/v1/models/digits/versions/%D9%A7", 400, "no whole number"),
        ("/v1/models/digits/labels/stable", 400, "Unrecognized servable version label: stable"),
    ],
)
def test_unknown_names_are_named(served: Process, path: str, end: str, status: int, text: str) -> None:
    answer = served.predict({"instances": [ONE]}, path + end) if end == ":predict" else served.get(path + end)
    assert answer.status == status
    assert text in answer.error


def with_pixel(value: object) -> list:
    changed = json.loads(json.dumps(ONE))
    changed[2][3][1] = value
    return changed


EXPECTED = "shape [6, 8, 3]"
BAD_BODIES = {
    "no JSON": (b"{", "not JSON"),
    "empty": (b"", "not JSON"),
    "not UTF-8": (b'{"instances": "\xff"}', "not JSON"),
    "NaN": (b'{"instances": [NaN]}', "not JSON"),
    "deep": (b"[" * 100_000, "not JSON"),
    "list": ([], "object"),
    "neither": ({}, "one of instances"),
    "both": ({"instances": [ONE], "inputs": [ONE]}, "one of instances"),
    "signature": ({"signature_name": "other", "instances": [ONE]}, "signature_name"),
    "signature type": ({"signature_name": 1, "instances": [ONE]}, "signature_name"),
    "number": ({"instances": 3}, "instances must be a list"),
    "null": ({"instances": None}, "instances must be a list"),
    "no instances": ({"instances": []}, "instances is empty"),
    "no inputs": ({"inputs": {"pixels": []}}, "inputs.pixels is empty"),
    "scalar": ({"instances": [1]}, EXPECTED),
    "one too flat": ({"instances": ONE}, EXPECTED),
    "transposed": ({"instances": np.zeros((1, 8, 6, 3)).tolist()}, EXPECTED),
    "column shape": ({"inputs": {"pixels": np.zeros((2, 6, 8, 1)).tolist()}}, "inputs.pixels has inputs of"),
    "empty lists": ({"instances": [[], []]}, EXPECTED),
    "ragged": ({"instances": [ONE, [*ONE[:-1], ONE[0][:-1]]]}, "instances[1] is ragged"),
    "second of another shape": ({"instances": [ONE, [1, 2]]}, "instances[1] has shape [2]"),
    "string": ({"instances": [with_pixel("x")]}, EXPECTED),
    "number as string": ({"instances": [with_pixel("1.5")]}, EXPECTED),
    "boolean": ({"instances": [with_pixel(True)]}, EXPECTED),
    "missing": ({"instances": [with_pixel(None)]}, EXPECTED),
    "object": ({"instances": [with_pixel({})]}, EXPECTED),
    "list as a number": ({"instances": [with_pixel([1])]}, EXPECTED),
    "too large for float32": ({"instances": [with_pixel(1e39)]}, "too large for float32"),
    "too large for float64": (b'{"instances": [1e999]}', "not JSON"),
    "too large for an integer": ({"instances": [with_pixel(10**60)]}, "too large for float32"),
    "no finite answer": ({"instances": [np.full(SHAPE, 3e38).tolist()]}, "finite"),
    "wrong name": ({"instances": [{"picture": ONE}]}, "instances[0] must hold exactly"),
    "name too many": ({"inputs": {"pixels": [ONE], "more": [ONE]}}, "inputs must hold exactly"),
    "mixed": ({"instances": [ONE, b64(picture())]}, "instances[0]"),
    "no base64": ({"instances": [{"b64": "?"}]}, "instances[0].b64 is not base64"),
    "base64 type": ({"instances": [{"b64": 1}]}, "instances[0]"),
    "base64 not ASCII": ({"instances": [{"b64": "ä"}]}, "instances[0].b64"),
    "no picture": ({"instances": [b64(picture()), b64(b"text")]}, "instances[1] can't be used"),
    "cut picture": ({"instances": [b64(picture(size=(99, 99))[:3000])]}, "damaged or truncated"),
    "column of one b64": ({"inputs": b64(picture())}, "inputs must be a list"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_bodies_are_400_and_say_where(served: Process, name: str) -> None:
    body, text = BAD_BODIES[name]
    answer = served.predict(body)
    assert answer.status == 400, answer.body
    assert text in answer.error
    assert served.predict({"instances": [ONE]}).status == 200


def test_more_inputs_than_memory_allows_are_refused(served: Process) -> None:
    body = b'{"instances":[' + b",".join([b'{"b64":""}'] * 18_000) + b"]}"
    assert len(body) < TASK.max_request_bytes
    answer = served.predict(body)
    assert answer.status == 400
    # 6 * 8 * 3 floats are 576 bytes: 32 MiB hold 58,254 of them, so these are only empty files.
    assert "instances[0] can't be used: the file is empty" in answer.error


def test_an_image_type_is_sent_to_classify(served: Process) -> None:
    answer = served.ask("POST", "/v1/models/digits:predict", picture(), {"Content-Type": "image/png"})
    assert answer.status == 415
    assert "/classify" in answer.error


@pytest.mark.parametrize("method", ["classify", "regress"])
def test_methods_for_other_models_are_404(served: Process, method: str) -> None:
    path = f"/v1/models/digits:{method}"
    answer = served.predict({"examples": []}, path)
    assert answer.status == 404
    assert path in answer.error
