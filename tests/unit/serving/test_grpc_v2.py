"""The Open Inference Protocol over real gRPC, asked by tritonclient."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as v2
from tritonclient.grpc import service_pb2_grpc

from lepton_workloads import __version__
from tests.unit.serving.support import (
    DEADLINE_SECONDS,
    LABELS,
    SHAPE,
    TASK,
    Process,
    litert,
    picture,
    png_input,
    until,
)

VERSION = str(TASK.version_number)
BATCH = np.random.default_rng(3).normal(size=(3, *SHAPE)).astype(np.float32)
PIXELS = np.random.default_rng(4).integers(0, 256, (2, *SHAPE), dtype=np.uint8)


@pytest.fixture(scope="module")
def client(grpc_served: Process) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{grpc_served.grpc_port}") as client:
        yield client


@pytest.fixture(scope="module")
def stub(grpc_served: Process) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    """For what no well-behaved client sends."""
    with grpc.insecure_channel(f"127.0.0.1:{grpc_served.grpc_port}") as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def tensor(values: np.ndarray, datatype: str = "FP32", name: str = "pixels") -> triton.InferInput:
    found = triton.InferInput(name, list(values.shape), datatype)
    found.set_data_from_numpy(values)
    return found


def files(*pictures: bytes, shape: tuple[int, ...]) -> triton.InferInput:
    return tensor(np.array(pictures, dtype=object).reshape(shape), "BYTES")


def typed(datatype: str = "FP32", shape: Any = BATCH.shape, name: str = "pixels", **contents: Any) -> Any:
    found = v2.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=list(shape))
    if contents:
        found.contents.CopyFrom(v2.InferTensorContents(**contents))
    return found


def request(*inputs: Any, **fields: Any) -> v2.ModelInferRequest:
    return v2.ModelInferRequest(**{"model_name": "digits", "inputs": inputs, **fields})


def test_the_server_tells_of_itself(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert (metadata.name, metadata.version) == ("lepton", __version__)


@pytest.mark.parametrize("version", ["", VERSION, TASK.version])
def test_the_model_tells_of_itself(client: triton.InferenceServerClient, version: str) -> None:
    assert client.is_model_ready("digits", version)
    metadata = client.get_model_metadata("digits", version, as_json=True)
    assert metadata == {
        "name": "digits",
        "versions": [VERSION],
        "platform": "litert_tflite",
        "inputs": [{"name": "pixels", "datatype": "FP32", "shape": ["-1", *map(str, SHAPE)]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": ["-1", str(len(LABELS))]}],
    }


@pytest.mark.parametrize("version", ["", VERSION, TASK.version])
def test_raw_numbers_are_answered_raw_as_by_the_bare_engine(
    client: triton.InferenceServerClient, version: str
) -> None:
    outputs = [triton.InferRequestedOutput("probabilities")]
    result = client.infer("digits", [tensor(BATCH)], version, outputs, request_id="number 1")
    assert np.array_equal(result.as_numpy("probabilities"), litert(BATCH))
    response = result.get_response()
    assert (response.id, response.model_name, response.model_version) == ("number 1", "digits", VERSION)
    assert len(response.raw_output_contents) == 1
    assert not response.outputs[0].HasField("contents")


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_typed_numbers_are_answered_typed(
    stub: service_pb2_grpc.GRPCInferenceServiceStub, datatype: str
) -> None:
    contents = {f"{datatype.lower()}_contents": BATCH.reshape(-1).tolist()}
    response = stub.ModelInfer(request(typed(datatype, **contents)))
    assert not response.raw_output_contents
    output = response.outputs[0]
    assert (output.name, output.datatype, list(output.shape)) == ("probabilities", "FP32", [3, len(LABELS)])
    found = np.array(output.contents.fp32_contents, np.float32).reshape(3, -1)
    assert np.array_equal(found, litert(BATCH))


def test_a_message_too_large_for_the_event_loop_is_answered_all_the_same(
    client: triton.InferenceServerClient,
) -> None:
    many = np.random.default_rng(5).normal(size=(300, *SHAPE)).astype(np.float32)
    assert many.nbytes < TASK.max_request_bytes
    assert np.array_equal(client.infer("digits", [tensor(many)]).as_numpy("probabilities"), litert(many))


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_picture_files_are_decoded_and_normalised_by_the_signature(
    client: triton.InferenceServerClient, stub: service_pb2_grpc.GRPCInferenceServiceStub, shape: Any
) -> None:
    pictures = [picture("PNG", 1), picture("PNG", 2)]
    expected = litert(np.stack([png_input(1), png_input(2)]))
    raw = client.infer("digits", [files(*pictures, shape=shape)])
    assert np.array_equal(raw.as_numpy("probabilities"), expected)
    answer = stub.ModelInfer(request(typed("BYTES", shape, bytes_contents=pictures)))
    found = np.array(answer.outputs[0].contents.fp32_contents, np.float32).reshape(2, -1)
    assert np.array_equal(found, expected)


def test_pixels_are_normalised_by_the_signature(
    client: triton.InferenceServerClient, stub: service_pb2_grpc.GRPCInferenceServiceStub
) -> None:
    expected = litert(PIXELS.astype(np.float32) * np.float32(1 / 127.5) + np.float32(-1.0))
    raw = client.infer("digits", [tensor(PIXELS, "UINT8")]).as_numpy("probabilities")
    assert np.array_equal(raw, expected)
    answer = stub.ModelInfer(request(typed("UINT8", PIXELS.shape, uint_contents=PIXELS.reshape(-1).tolist())))
    found = np.array(answer.outputs[0].contents.fp32_contents, np.float32).reshape(2, -1)
    assert np.array_equal(found, expected)


def test_the_most_probable_classes_on_request(client: triton.InferenceServerClient) -> None:
    outputs = [triton.InferRequestedOutput("probabilities", class_count=2)]
    result = client.infer("digits", [tensor(BATCH)], outputs=outputs).as_numpy("probabilities")
    expected = litert(BATCH)
    assert result.shape == (3, 2)
    for row, probabilities in zip(result, expected, strict=True):
        found = [text.decode().split(":") for text in row]
        best = np.argsort(-probabilities)[:2]
        assert [int(index) for _, index, _ in found] == best.tolist()
        assert [label for _, _, label in found] == [LABELS[index] for index in best]
        assert [float(value) for value, _, _ in found] == pytest.approx(probabilities[best])


def parameter(**value: Any) -> dict[str, Any]:
    return {"source": v2.InferParameter(**value)}


FLAT = BATCH.reshape(-1).tolist()
RAW = BATCH.tobytes()
WHOLE = typed(fp32_contents=FLAT)
NAN = BATCH.copy()
NAN[1, 2, 3, 1] = np.nan
HUGE = np.full(BATCH.shape, 3e38, np.float32)
SHARED = {"shared_memory_region": v2.InferParameter(string_param="x")}
OUTPUT = v2.ModelInferRequest.InferRequestedOutputTensor
PNG = picture("PNG", 1)


def element(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


BAD: dict[str, tuple[Callable[[], Any], str, str]] = {
    "no model": (lambda: request(WHOLE, model_name=""), "NOT_FOUND", "no model ''"),
    "other model": (lambda: request(WHOLE, model_name="cats"), "NOT_FOUND", "no model 'cats'"),
    "other version": (lambda: request(WHOLE, model_version="7"), "NOT_FOUND", "no version '7'"),
    "no inputs": (lambda: request(), "INVALID_ARGUMENT", "inputs holds 0 tensors"),
    "two inputs": (lambda: request(WHOLE, WHOLE), "INVALID_ARGUMENT", "inputs holds 2 tensors"),
    "other name": (
        lambda: request(typed(name="image", fp32_contents=FLAT)),
        "INVALID_ARGUMENT",
        "inputs[0].name must be 'pixels', not 'image'",
    ),
    "no datatype": (lambda: request(typed("", fp32_contents=FLAT)), "INVALID_ARGUMENT", "inputs[0].datatype"),
    "integers": (
        lambda: request(typed("INT64", int64_contents=[1])),
        "INVALID_ARGUMENT",
        "inputs[0].datatype must be",
    ),
    "no shape": (lambda: request(typed(shape=[], fp32_contents=FLAT)), "INVALID_ARGUMENT", "inputs[0].shape"),
    "transposed": (
        lambda: request(typed(shape=(3, 8, 6, 3), fp32_contents=FLAT)),
        "INVALID_ARGUMENT",
        "inputs[0].shape is [3, 8, 6, 3], it must be [N, 6, 8, 3]",
    ),
    "no batch": (
        lambda: request(typed(shape=SHAPE, fp32_contents=FLAT[:144])),
        "INVALID_ARGUMENT",
        "inputs[0].shape",
    ),
    "empty batch": (
        lambda: request(typed(shape=(0, *SHAPE))),
        "INVALID_ARGUMENT",
        "inputs[0].shape is empty",
    ),
    "negative batch": (
        lambda: request(typed(shape=(-3, *SHAPE), fp32_contents=FLAT)),
        "INVALID_ARGUMENT",
        "inputs[0].shape must be whole numbers from 0",
    ),
    "enormous batch": (
        lambda: request(typed(shape=(2**62, *SHAPE), fp32_contents=FLAT)),
        "INVALID_ARGUMENT",
        "inputs[0].shape holds 4611686018427387904 inputs",
    ),
    "too few": (
        lambda: request(typed(fp32_contents=FLAT[:-1])),
        "INVALID_ARGUMENT",
        "inputs[0].contents.fp32_contents holds 431 elements, inputs[0].shape says 432",
    ),
    "nothing": (lambda: request(typed()), "INVALID_ARGUMENT", "fp32_contents holds 0 elements"),
    "other contents": (
        lambda: request(typed(fp64_contents=FLAT)),
        "INVALID_ARGUMENT",
        "inputs[0].contents.fp64_contents is not for FP32",
    ),
    "typed half": (lambda: request(typed("FP16")), "INVALID_ARGUMENT", "FP16 is for raw_input_contents only"),
    "NaN": (
        lambda: request(typed(fp32_contents=NAN.reshape(-1).tolist())),
        "INVALID_ARGUMENT",
        "inputs[0].contents.fp32_contents holds NaN",
    ),
    "too large for float32": (
        lambda: request(typed("FP64", fp64_contents=[1e39] * 432)),
        "INVALID_ARGUMENT",
        "too large for float32",
    ),
    "no pixel": (
        lambda: request(typed("UINT8", uint_contents=[256] * 432)),
        "INVALID_ARGUMENT",
        "uint_contents holds 256: pixels are 0 to 255",
    ),
    "raw NaN": (
        lambda: request(typed(), raw_input_contents=[NAN.tobytes()]),
        "INVALID_ARGUMENT",
        "raw_input_contents[0] holds NaN",
    ),
    "no finite answer": (
        lambda: request(typed(), raw_input_contents=[HUGE.tobytes()]),
        "INVALID_ARGUMENT",
        "raw_input_contents[0]: the network has no finite answer",
    ),
    "raw too short": (
        lambda: request(typed(), raw_input_contents=[RAW[:-1]]),
        "INVALID_ARGUMENT",
        "raw_input_contents[0] has 1727 bytes",
    ),
    "raw too many": (
        lambda: request(typed(), raw_input_contents=[RAW, RAW]),
        "INVALID_ARGUMENT",
        "raw_input_contents holds 2 entries",
    ),
    "raw and typed": (
        lambda: request(WHOLE, raw_input_contents=[RAW]),
        "INVALID_ARGUMENT",
        "inputs[0].contents and raw_input_contents are both given",
    ),
    "picture shape": (
        lambda: request(typed("BYTES", (1, 2), bytes_contents=[PNG, PNG])),
        "INVALID_ARGUMENT",
        "inputs[0].shape is [1, 2], it must be [N] or [N, 1]",
    ),
    "picture count": (
        lambda: request(typed("BYTES", (2,), bytes_contents=[PNG])),
        "INVALID_ARGUMENT",
        "bytes_contents holds 1 elements, inputs[0].shape says 2",
    ),
    "no picture": (
        lambda: request(typed("BYTES", (2,), bytes_contents=[PNG, b"text"])),
        "INVALID_ARGUMENT",
        "inputs[0].contents.bytes_contents[1] can't be used",
    ),
    "empty picture": (
        lambda: request(typed("BYTES", (1,), bytes_contents=[b""])),
        "INVALID_ARGUMENT",
        "bytes_contents[0] can't be used: the file is empty",
    ),
    "raw picture without length": (
        lambda: request(typed("BYTES", (1,)), raw_input_contents=[PNG]),
        "INVALID_ARGUMENT",
        "raw_input_contents[0]: element 0 ends behind the data",
    ),
    "raw picture and more": (
        lambda: request(typed("BYTES", (1,)), raw_input_contents=[element(PNG) + b"more"]),
        "INVALID_ARGUMENT",
        "raw_input_contents[0]: 4 bytes follow",
    ),
    "raw picture cut": (
        lambda: request(typed("BYTES", (1,)), raw_input_contents=[element(PNG[:60])]),
        "INVALID_ARGUMENT",
        "raw_input_contents[0][0] can't be used",
    ),
    "other output": (
        lambda: request(WHOLE, outputs=[OUTPUT(name="features")]),
        "INVALID_ARGUMENT",
        "outputs[0].name must be 'probabilities', not 'features'",
    ),
    "output twice": (
        lambda: request(WHOLE, outputs=[OUTPUT(name="probabilities")] * 2),
        "INVALID_ARGUMENT",
        "outputs holds 2 names",
    ),
    "classes as a text": (
        lambda: request(
            WHOLE,
            outputs=[
                OUTPUT(
                    name="probabilities", parameters={"classification": v2.InferParameter(string_param="2")}
                )
            ],
        ),
        "INVALID_ARGUMENT",
        "outputs[0].parameters.classification must be a whole number",
    ),
    "shared memory": (
        lambda: request(
            v2.ModelInferRequest.InferInputTensor(
                name="pixels", datatype="FP32", shape=BATCH.shape, parameters=SHARED
            )
        ),
        "INVALID_ARGUMENT",
        "inputs[0].parameters.shared_memory_region: shared memory is not possible",
    ),
    "source no text": (
        lambda: request(WHOLE, parameters=parameter(int64_param=1)),
        "INVALID_ARGUMENT",
        "parameters.source must be a text",
    ),
    "source too long": (
        lambda: request(WHOLE, parameters=parameter(string_param="x" * 129)),
        "INVALID_ARGUMENT",
        "parameters.source must be a text",
    ),
    "id too long": (lambda: request(WHOLE, id="x" * 1025), "INVALID_ARGUMENT", "id must be"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_have_a_code_and_say_where(
    grpc_served: Process, stub: service_pb2_grpc.GRPCInferenceServiceStub, name: str
) -> None:
    make, code, text = BAD[name]
    route = f'lepton_server_requests_total{{code="{code}",route="grpc/ModelInfer"}}'
    before = grpc_served.metric(route)
    with pytest.raises(grpc.RpcError) as raised:
        stub.ModelInfer(make(), timeout=DEADLINE_SECONDS)
    assert raised.value.code().name == code, raised.value.details()
    assert text in raised.value.details()
    until(lambda: grpc_served.metric(route) == before + 1, "the metric")
    assert np.array_equal(
        np.array(stub.ModelInfer(request(WHOLE)).outputs[0].contents.fp32_contents, np.float32),
        litert(BATCH).reshape(-1),
    )


@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata"])
@pytest.mark.parametrize(("name", "version"), [("cats", ""), ("digits", "7"), ("", "")])
def test_unknown_models_are_not_found(
    stub: service_pb2_grpc.GRPCInferenceServiceStub, method: str, name: str, version: str
) -> None:
    message = getattr(v2, f"{method}Request")(name=name, version=version)
    with pytest.raises(grpc.RpcError) as raised:
        getattr(stub, method)(message)
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND
    assert f"this server has digits, version {VERSION}" in raised.value.details()


def test_what_the_server_does_not_have_is_unimplemented(
    stub: service_pb2_grpc.GRPCInferenceServiceStub,
) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        stub.RepositoryIndex(v2.RepositoryIndexRequest())
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
