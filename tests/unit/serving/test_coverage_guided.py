"""Inputs that follow the code's branches (libFuzzer): none raises, answers 500, hangs or takes memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tritonclient.grpc.service_pb2 import ModelInferRequest

from tests.unit.serving.coverage_guided import KINDS, METHODS, ROUTES, TARGETS
from tests.unit.serving.support import SHAPE, form, part, picture
from tests.unit.serving.test_fuzz import EXAMPLES, GOOD, PICTURES

RUNS = EXAMPLES * 500
MEGABYTES = 1024
SECONDS = 10
"""An input that takes longer is a fault."""


def http_seeds() -> list[bytes]:
    """Good requests of each form: number of route and type, length of the binary part's head, body."""
    tensor = np.zeros((1, *SHAPE), np.float32)
    head = {"name": "pixels", "datatype": "FP32", "shape": list(tensor.shape)}
    with_numbers = json.dumps({"inputs": [head | {"data": tensor.ravel().tolist()}]}).encode()
    small = json.dumps(
        {"inputs": [head | {"parameters": {"binary_data_size": tensor.nbytes}}]}, separators=(",", ":")
    ).encode()
    assert len(small) < 256
    json_type, octets, jpeg, form_type = KINDS
    rows = [
        ("/v1/models/digits:predict", json_type, b"", GOOD),
        ("/v2/models/digits/infer", json_type, b"", with_numbers),
        ("/v2/models/digits/infer", octets, small, tensor.tobytes()),
        *(("/classify", jpeg, b"", one) for one in PICTURES),
        ("/classify", form_type, b"", form(part(picture()))),
        ("/explain", jpeg, b"", picture()),
    ]
    return [
        bytes((ROUTES.index(route) + KINDS.index(kind) * len(ROUTES), len(head), *head)) + body
        for route, kind, head, body in rows
    ]


def grpc_seeds() -> list[bytes]:
    """The number of the method, then a good message of a client of others."""
    tensor = np.zeros((1, *SHAPE), np.float32)
    raw = ModelInferRequest(model_name="digits", id="7")
    raw.inputs.add(name="pixels", datatype="FP32", shape=tensor.shape)
    typed = ModelInferRequest()
    typed.CopyFrom(raw)
    raw.raw_input_contents.append(tensor.tobytes())
    typed.inputs[0].contents.fp32_contents.extend(tensor.ravel().tolist())
    asked = PredictRequest()
    asked.model_spec.name = "digits"
    asked.inputs["pixels"].dtype = 1
    for size in tensor.shape:
        asked.inputs["pixels"].tensor_shape.dim.add(size=size)
    asked.inputs["pixels"].tensor_content = tensor.tobytes()
    rows = [("ModelInfer", raw), ("ModelInfer", typed), ("Predict", asked), ("GetModelMetadata", asked)]
    return [bytes([METHODS.index(method)]) + message.SerializeToString() for method, message in rows]


SEEDS = {"http": http_seeds, "grpc": grpc_seeds, "picture": lambda: PICTURES}


@pytest.mark.parametrize("target", list(TARGETS))
def test_no_input_is_a_fault(target: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS[target]()):
        (corpus / str(number)).write_bytes(seed)
    options = [f"-runs={RUNS}", "-seed=1", f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES}"]
    options += ["-max_len=20000", f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.serving.coverage_guided", target, *options, str(corpus)],
        env={"PYTHONPATH": ":".join(sys.path), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    assert f"Done {RUNS} runs" in done.stderr, done.stderr[-2000:]
