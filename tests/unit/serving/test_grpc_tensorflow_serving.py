"""TensorFlow Serving's gRPC, asked by the stubs of tensorflow-serving-api with TensorFlow's own messages."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.unit.serving.support import (
    DEADLINE_SECONDS,
    LABELS,
    SHAPE,
    TASK,
    Process,
    litert,
    picture,
    png_input,
)

VERSION = TASK.version_number
BATCH = np.random.default_rng(3).normal(size=(3, *SHAPE)).astype(np.float32)
PNG = picture("PNG", 1)


@pytest.fixture(scope="module")
def stubs(grpc_served: Process) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{grpc_served.grpc_port}") as channel:
        predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        yield SimpleNamespace(
            predict=predictions.Predict,
            metadata=predictions.GetModelMetadata,
            status=models.GetModelStatus,
        )


def spec(name: str = "digits", **fields: Any) -> model_pb2.ModelSpec:
    found = model_pb2.ModelSpec(name=name)
    if "version" in fields:
        found.version.value = fields.pop("version")
    found.MergeFrom(model_pb2.ModelSpec(**fields))
    return found


def request(
    tensor: TensorProto | None = None, name: str = "pixels", **fields: Any
) -> predict_pb2.PredictRequest:
    found = predict_pb2.PredictRequest(**{"model_spec": spec(), **fields})
    if tensor is not None:
        found.inputs[name].CopyFrom(tensor)
    return found


def tensor(dtype: int = 1, shape: Any = BATCH.shape, **values: Any) -> TensorProto:
    found = TensorProto(dtype=dtype, **values)
    for size in shape:
        found.tensor_shape.dim.add(size=size)
    return found


def probabilities(response: predict_pb2.PredictResponse) -> np.ndarray:
    assert list(response.outputs) == ["probabilities"]
    return tf.make_ndarray(response.outputs["probabilities"])


@pytest.mark.parametrize(
    "sent",
    [
        tf.make_tensor_proto(BATCH),
        tensor(tensor_content=BATCH.tobytes()),
        tensor(float_val=BATCH.reshape(-1).tolist()),
    ],
    ids=["made by TensorFlow", "content", "values"],
)
@pytest.mark.parametrize(
    "named",
    [
        spec(),
        spec(version=VERSION),
        spec(signature_name="serving_default"),
        spec(version=VERSION, signature_name="serving_default"),
    ],
)
def test_numbers_are_answered_as_by_the_bare_engine(stubs: Any, sent: TensorProto, named: Any) -> None:
    response = stubs.predict(request(sent, model_spec=named))
    assert np.array_equal(probabilities(response), litert(BATCH))
    assert response.model_spec == spec(version=VERSION, signature_name="serving_default")


def test_the_last_value_stands_for_those_that_follow(stubs: Any) -> None:
    response = stubs.predict(request(tensor(float_val=[0.5])))
    assert np.array_equal(probabilities(response), litert(np.full(BATCH.shape, 0.5)))
    constant = tf.make_tensor_proto(0.25, tf.float32, [2, *SHAPE])
    assert np.array_equal(probabilities(stubs.predict(request(constant))), litert(np.full((2, *SHAPE), 0.25)))


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_picture_files_are_decoded_and_normalised_by_the_signature(stubs: Any, shape: list[int]) -> None:
    pictures = tf.make_tensor_proto([picture("PNG", 1), picture("PNG", 2)], tf.string, shape)
    expected = litert(np.stack([png_input(1), png_input(2)]))
    assert np.array_equal(probabilities(stubs.predict(request(pictures))), expected)


def test_a_message_too_large_for_the_event_loop_is_answered_all_the_same(stubs: Any) -> None:
    many = np.random.default_rng(5).normal(size=(300, *SHAPE)).astype(np.float32)
    for sent in (
        tf.make_tensor_proto(many),
        tensor(shape=many.shape, float_val=many.reshape(-1).tolist()),
    ):
        assert np.array_equal(probabilities(stubs.predict(request(sent))), litert(many))


def test_the_output_may_be_named(stubs: Any) -> None:
    response = stubs.predict(request(tf.make_tensor_proto(BATCH), output_filter=["probabilities"]))
    assert np.array_equal(probabilities(response), litert(BATCH))


def test_metadata_holds_the_signature(stubs: Any) -> None:
    asked = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=spec(), metadata_field=["signature_def"]
    )
    response = stubs.metadata(asked)
    assert response.model_spec == spec(version=VERSION)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert list(signatures.signature_def) == ["serving_default"]
    signature = signatures.signature_def["serving_default"]
    assert signature.method_name == "tensorflow/serving/predict"
    for infos, name, shape in (
        (signature.inputs, "pixels", [-1, *SHAPE]),
        (signature.outputs, "probabilities", [-1, len(LABELS)]),
    ):
        assert list(infos) == [name]
        assert infos[name].dtype == tf.float32.as_datatype_enum
        assert [dim.size for dim in infos[name].tensor_shape.dim] == shape


@pytest.mark.parametrize("named", [spec(), spec(version=VERSION)])
def test_status_says_that_the_version_is_available(stubs: Any, named: Any) -> None:
    response = stubs.status(get_model_status_pb2.GetModelStatusRequest(model_spec=named))
    states = response.model_version_status
    assert [(one.version, one.state, one.status.error_code) for one in states] == [
        (VERSION, get_model_status_pb2.ModelVersionStatus.AVAILABLE, 0)
    ]


@pytest.mark.parametrize(
    ("named", "code", "text"),
    [
        (None, "INVALID_ARGUMENT", "Missing ModelSpec"),
        (spec(""), "INVALID_ARGUMENT", "ModelSpec has no name specified"),
        (spec("cats"), "NOT_FOUND", "Servable not found for request: Latest(cats)"),
        (spec("cats", version=7), "NOT_FOUND", "Specific(cats, 7)"),
        (spec(version=7), "NOT_FOUND", "Specific(digits, 7)"),
        (spec(version=0), "NOT_FOUND", "Specific(digits, 0)"),
        (spec(version=-1), "NOT_FOUND", "Specific(digits, -1)"),
        (spec(version_label="stable"), "INVALID_ARGUMENT", "Unrecognized servable version label: stable"),
    ],
)
@pytest.mark.parametrize("method", ["predict", "metadata", "status"])
def test_unknown_names_are_named(stubs: Any, method: str, named: Any, code: str, text: str) -> None:
    asked = {
        "predict": lambda: request(tf.make_tensor_proto(BATCH), model_spec=named),
        "metadata": lambda: get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=named, metadata_field=["signature_def"]
        ),
        "status": lambda: get_model_status_pb2.GetModelStatusRequest(model_spec=named),
    }[method]()
    with pytest.raises(grpc.RpcError) as raised:
        getattr(stubs, method)(asked)
    assert raised.value.code().name == code
    assert text in raised.value.details()


NAN = BATCH.copy()
NAN[1, 2, 3, 1] = np.nan
HUGE = np.full(BATCH.shape, 3e38, np.float32)
UNKNOWN_RANK = tensor(shape=[], float_val=[1.0])
UNKNOWN_RANK.tensor_shape.unknown_rank = True
WHOLE = tf.make_tensor_proto(BATCH)

BAD: dict[str, tuple[Callable[[], Any], str, str]] = {
    "other signature": (
        lambda: request(WHOLE, model_spec=spec(signature_name="classify")),
        "FAILED_PRECONDITION",
        'Serving signature key "classify" not found',
    ),
    "no input": (lambda: request(), "INVALID_ARGUMENT", "inputs must hold exactly the network's input"),
    "other input": (lambda: request(WHOLE, "image"), "INVALID_ARGUMENT", "it holds image"),
    "other output": (
        lambda: request(WHOLE, output_filter=["features"]),
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: features",
    ),
    "output twice": (
        lambda: request(WHOLE, output_filter=["probabilities"] * 2),
        "INVALID_ARGUMENT",
        "duplicate output tensor alias: probabilities",
    ),
    "double": (
        lambda: request(tf.make_tensor_proto(BATCH.astype(np.float64))),
        "INVALID_ARGUMENT",
        "inputs['pixels'].dtype must be DT_FLOAT (the network's input, normalised) or DT_STRING (picture files), "
        "not DT_DOUBLE",
    ),
    "no dtype": (lambda: request(tensor(0)), "INVALID_ARGUMENT", "not DT_INVALID"),
    "unknown dtype": (lambda: request(tensor(101)), "INVALID_ARGUMENT", "not 101"),
    "no shape": (
        lambda: request(tensor(shape=[], float_val=[1.0])),
        "INVALID_ARGUMENT",
        "tensor_shape is []",
    ),
    "unknown rank": (lambda: request(UNKNOWN_RANK), "INVALID_ARGUMENT", "tensor_shape must be known"),
    "transposed": (
        lambda: request(tf.make_tensor_proto(BATCH.reshape(3, 8, 6, 3))),
        "INVALID_ARGUMENT",
        "inputs['pixels'].tensor_shape is [3, 8, 6, 3], it must be [N, 6, 8, 3]",
    ),
    "negative": (
        lambda: request(tensor(shape=(-1, *SHAPE), float_val=[1.0])),
        "INVALID_ARGUMENT",
        "tensor_shape must be whole numbers from 0",
    ),
    "empty": (
        lambda: request(tensor(shape=(0, *SHAPE))),
        "INVALID_ARGUMENT",
        "tensor_shape is empty: at least one input is needed",
    ),
    "one value for an enormous batch": (
        lambda: request(tensor(shape=(2**40, *SHAPE), float_val=[1.0])),
        "INVALID_ARGUMENT",
        "tensor_shape holds 1099511627776 inputs, at most",
    ),
    "no values": (
        lambda: request(tensor()),
        "INVALID_ARGUMENT",
        "inputs['pixels'].float_val holds 0 values, the shape says 432",
    ),
    "too many values": (
        lambda: request(tensor(float_val=[1.0] * 433)),
        "INVALID_ARGUMENT",
        "float_val holds 433 values",
    ),
    "both": (
        lambda: request(tensor(tensor_content=BATCH.tobytes(), float_val=[1.0])),
        "INVALID_ARGUMENT",
        "tensor_content and float_val are both given",
    ),
    "content too short": (
        lambda: request(tensor(tensor_content=BATCH.tobytes()[:-1])),
        "INVALID_ARGUMENT",
        "inputs['pixels'].tensor_content has 1727 bytes",
    ),
    "NaN": (
        lambda: request(tf.make_tensor_proto(NAN)),
        "INVALID_ARGUMENT",
        "inputs['pixels'].tensor_content holds NaN",
    ),
    "infinity": (
        lambda: request(tensor(float_val=[np.inf])),
        "INVALID_ARGUMENT",
        "inputs['pixels'].float_val holds NaN, infinity",
    ),
    "no finite answer": (
        lambda: request(tf.make_tensor_proto(HUGE)),
        "INVALID_ARGUMENT",
        "the network has no finite answer",
    ),
    "picture shape": (
        lambda: request(tensor(7, (1, 2), string_val=[PNG, PNG])),
        "INVALID_ARGUMENT",
        "it must be [N] or [N, 1]",
    ),
    "picture count": (
        lambda: request(tensor(7, (2,), string_val=[PNG])),
        "INVALID_ARGUMENT",
        "inputs['pixels'].string_val holds 1 elements, the shape says 2",
    ),
    "no picture": (
        lambda: request(tensor(7, (2,), string_val=[PNG, b"text"])),
        "INVALID_ARGUMENT",
        "inputs['pixels'].string_val[1] can't be used",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_have_a_code_and_say_where(stubs: Any, name: str) -> None:
    make, code, text = BAD[name]
    with pytest.raises(grpc.RpcError) as raised:
        stubs.predict(make(), timeout=DEADLINE_SECONDS)
    assert raised.value.code().name == code, raised.value.details()
    assert text in raised.value.details()
    assert np.array_equal(probabilities(stubs.predict(request(WHOLE))), litert(BATCH))


@pytest.mark.parametrize(
    ("fields", "text"), [([], "metadata_field is empty"), (["tags"], "Metadata field tags is not supported")]
)
def test_metadata_is_that_of_the_signature_only(stubs: Any, fields: list[str], text: str) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        stubs.metadata(
            get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec(), metadata_field=fields)
        )
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert text in raised.value.details()
