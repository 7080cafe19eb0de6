"""Whatever is wrong with a request: the code, a sentence that names the field, and a server that works on."""

import base64
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest

from tests.unit.serving.support import SHAPE, TASK, Process, picture

PREDICT = "/v1/models/digits:predict"
INFER = "/v2/models/digits/infer"
ZEROS = np.zeros(SHAPE).tolist()
GOOD = json.dumps({"instances": [ZEROS]}).encode()
PNG = picture("PNG")
JSON = {"Content-Type": "application/json"}


def instances(text: str) -> bytes:
    """A predict request with one input, whose first number is replaced by this text."""
    return GOOD.replace(b"0.0", text.encode(), 1)


def b64(*files: bytes) -> bytes:
    return json.dumps({"instances": [{"b64": base64.b64encode(one).decode()} for one in files]}).encode()


def infer(**changed: Any) -> bytes:
    one = {"name": "pixels", "datatype": "FP32", "shape": [1, *SHAPE], "data": [0] * 144, **changed}
    return json.dumps({"inputs": [one]}).encode()


def huge_png() -> bytes:
    data = bytearray(PNG)
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


CASES: dict[str, tuple[str, str, bytes, dict[str, str], int, str]] = {
    "no JSON": ("POST", PREDICT, b"instances", JSON, 400, "not JSON"),
    "nothing": ("POST", PREDICT, b"", {"Content-Length": "0"}, 400, "not JSON"),
    "byte order mark": ("POST", PREDICT, b"\xef\xbb\xbf" + GOOD, JSON, 400, "not JSON"),
    "UTF-16": ("POST", PREDICT, GOOD.decode().encode("utf-16"), JSON, 400, "not JSON"),
    "NaN": ("POST", PREDICT, instances("NaN"), JSON, 400, "not JSON"),
    "Infinity": ("POST", PREDICT, instances("-Infinity"), JSON, 400, "not JSON"),
    "too large for float64": ("POST", PREDICT, instances("1e999"), JSON, 400, "not JSON"),
    "too large for float32": ("POST", PREDICT, instances("1e39"), JSON, 400, "instances"),
    "huge integer": ("POST", PREDICT, instances("9" * 60), JSON, 400, "instances"),
    "boolean": ("POST", PREDICT, instances("true"), JSON, 400, "instances"),
    "null": ("POST", PREDICT, instances("null"), JSON, 400, "instances"),
    "text": ("POST", PREDICT, instances('"0"'), JSON, 400, "instances"),
    "object": ("POST", PREDICT, instances("{}"), JSON, 400, "instances"),
    "lone surrogate": ("POST", PREDICT, instances('"\\ud800"'), JSON, 400, "not JSON"),
    "deep": ("POST", PREDICT, b"[" * 2000 + b"]" * 2000, JSON, 400, "not JSON"),
    "many lists": ("POST", PREDICT, b'{"instances":[' + b"[]," * 60_000 + b"0]}", JSON, 400, "lists"),
    "many objects": ("POST", PREDICT, b'{"instances":[' + b"{}," * 60_000 + b"0]}", JSON, 400, "instances"),
    "list": ("POST", PREDICT, b"[]", JSON, 400, "object"),
    "neither": ("POST", PREDICT, b"{}", JSON, 400, "instances"),
    "both": ("POST", PREDICT, b'{"instances":[],"inputs":[]}', JSON, 400, "inputs"),
    "signature": ("POST", PREDICT, b'{"instances":[],"signature_name":[]}', JSON, 400, "signature_name"),
    "no inputs": ("POST", PREDICT, b'{"instances":[]}', JSON, 400, "instances is empty"),
    "ragged": ("POST", PREDICT, b'{"instances":[[1,[2]]]}', JSON, 400, "instances"),
    "no base64": ("POST", PREDICT, b'{"instances":[{"b64":"%"}]}', JSON, 400, "instances[0].b64"),
    "no picture": ("POST", PREDICT, b64(PNG, b"x"), JSON, 400, "instances[1]"),
    "cut picture": ("POST", PREDICT, b64(PNG[:60]), JSON, 400, "instances[0]"),
    "picture bomb": ("POST", PREDICT, b64(huge_png()), JSON, 400, "pixels"),
    "another model": ("POST", "/v1/models/no:predict", GOOD, JSON, 404, "no"),
    "another version": ("POST", "/v1/models/digits/versions/7:predict", GOOD, JSON, 404, "7"),
    "odd version": ("POST", "/v1/models/digits/versions/x:predict", GOOD, JSON, 400, "version"),
    "a picture for JSON": ("POST", PREDICT, PNG, {"Content-Type": "image/png"}, 415, "Content-Type"),
    "compressed": ("POST", PREDICT, GOOD, {"Content-Encoding": "gzip"}, 415, "Content-Encoding"),
    "too large": ("POST", PREDICT, b"x" * (TASK.max_request_bytes + 1), JSON, 413, "larger than"),
    "wrong method": ("PUT", PREDICT, GOOD, JSON, 405, "POST"),
    "odd source": ("POST", PREDICT, GOOD, {"lepton-source": "x" * 129}, 400, "lepton-source"),
    "v2 no JSON": ("POST", INFER, b"{", JSON, 400, "not JSON"),
    "v2 no inputs": ("POST", INFER, b"{}", JSON, 400, "inputs"),
    "v2 name": ("POST", INFER, infer(name="x"), JSON, 400, "inputs[0].name"),
    "v2 datatype": ("POST", INFER, infer(datatype="INT8"), JSON, 400, "inputs[0].datatype"),
    "v2 shape": ("POST", INFER, infer(shape=[1, 2]), JSON, 400, "inputs[0].shape"),
    "v2 huge shape": ("POST", INFER, infer(shape=[10**18, *SHAPE]), JSON, 400, "inputs[0].shape"),
    "v2 negative shape": ("POST", INFER, infer(shape=[-1, *SHAPE]), JSON, 400, "inputs[0].shape"),
    "v2 data": ("POST", INFER, infer(data=[0] * 143), JSON, 400, "inputs[0].data"),
    "v2 model": ("POST", "/v2/models/no/infer", infer(), JSON, 404, "no"),
    "empty picture": ("POST", "/classify", b"", {"Content-Length": "0"}, 400, "empty"),
    "no picture file": ("POST", "/classify", b"hello", {}, 415, "picture"),
    "cut picture file": ("POST", "/classify", PNG[:60], {}, 400, "damaged"),
    "bomb": ("POST", "/classify", huge_png(), {}, 400, "pixels"),
    "top": ("POST", "/classify?top=0", PNG, {}, 400, "top"),
    "form": ("POST", "/classify", b"--x", {"Content-Type": "multipart/form-data"}, 400, "boundary"),
    "unknown path": ("GET", "/%00%ff//..", b"", {}, 404, "there is no"),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_gets_its_code_and_a_sentence(served: Process, name: str) -> None:
    method, path, body, headers, status, sentence = CASES[name]
    answer = served.ask(method, path, body or None, headers)
    assert answer.status == status, answer.body
    assert sentence in answer.error
    assert served.predict(GOOD).status == 200


def test_the_last_of_two_keys_counts(served: Process) -> None:
    body = b'{"instances": [], "instances": ' + json.dumps([ZEROS]).encode() + b"}"
    assert served.predict(body).status == 200
