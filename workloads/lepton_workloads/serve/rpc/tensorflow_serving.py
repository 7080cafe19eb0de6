"""TensorFlow Serving over gRPC: Predict, GetModelMetadata, GetModelStatus, with its names and codes.

As over REST, a DT_FLOAT tensor is the network's input itself, normalised, and DT_STRING holds picture files. A
difference: DT_FLOAT without any value is refused, where TensorFlow fills in zeros.
https://github.com/tensorflow/serving/blob/master/tensorflow_serving/apis/prediction_service.proto
"""

import numpy as np

from lepton_workloads.contract.artifact import Tensor
from lepton_workloads.serve.bodies.inputs import Inputs, answers
from lepton_workloads.serve.bodies.tensors import FILES, LARGE_BODY_BYTES, check_shape, read_raw
from lepton_workloads.serve.caller import Caller
from lepton_workloads.serve.engines.engine import Floats
from lepton_workloads.serve.http import HttpError
from lepton_workloads.serve.model import Model
from lepton_workloads.serve.rest.tensorflow_serving import METHOD_NAME, SIGNATURE_NAME, check_names, state_of
from lepton_workloads.serve.rpc.calls import Method
from lepton_workloads.serve.rpc.protos import tensorflow_pb2 as tf
from lepton_workloads.serve.rpc.protos import tensorflow_serving_pb2 as serving

PREDICTIONS = "tensorflow.serving.PredictionService"
STATES = "tensorflow.serving.ModelService"
SIGNATURE_FIELD = "signature_def"
SIGNATURE_TYPE = "type.googleapis.com/tensorflow.serving.SignatureDefMap"


def predictions(model: Model) -> list[Method]:
    """The methods of PredictionService."""

    async def predict(request: serving.PredictRequest, caller: Caller) -> serving.PredictResponse:
        return await _predict(model, request, caller)

    async def metadata(
        request: serving.GetModelMetadataRequest, _: Caller
    ) -> serving.GetModelMetadataResponse:
        return _metadata(model, request)

    return [
        Method(PREDICTIONS, "Predict", serving.PredictRequest, predict),
        Method(PREDICTIONS, "GetModelMetadata", serving.GetModelMetadataRequest, metadata),
    ]


def states(model: Model) -> list[Method]:
    """The methods of ModelService."""

    async def status(request: serving.GetModelStatusRequest, _: Caller) -> serving.GetModelStatusResponse:
        _check_spec(model, request)
        state = serving.ModelVersionStatus.State.Value(state_of(model))
        response = serving.GetModelStatusResponse()
        response.model_version_status.add(
            version=model.task.version_number, state=state, status=serving.StatusProto()
        )
        return response

    return [Method(STATES, "GetModelStatus", serving.GetModelStatusRequest, status)]


def _check_spec(
    model: Model,
    request: serving.PredictRequest | serving.GetModelMetadataRequest | serving.GetModelStatusRequest,
) -> serving.ModelSpec:
    """The request's model_spec, when it is the model that is here."""
    if not request.HasField("model_spec"):
        raise HttpError(400, "Missing ModelSpec: model_spec.name must be the model's name")
    spec = request.model_spec
    if not spec.name:
        raise HttpError(400, "ModelSpec has no name specified: model_spec.name must be the model's name")
    version = spec.version.value if spec.HasField("version") else None
    label = spec.version_label if spec.HasField("version_label") else None
    check_names(model, spec.name, version, label)
    return spec


def _spec(model: Model, signature: str) -> serving.ModelSpec:
    version = serving.Int64Value(value=model.task.version_number)
    return serving.ModelSpec(name=model.task.name, version=version, signature_name=signature)


def _metadata(model: Model, request: serving.GetModelMetadataRequest) -> serving.GetModelMetadataResponse:
    if not request.metadata_field:
        raise HttpError(400, f"metadata_field is empty: it must hold {SIGNATURE_FIELD!r}")
    for name in request.metadata_field:
        if name != SIGNATURE_FIELD:
            message = (
                f"Metadata field {name[:100]} is not supported: metadata_field must hold {SIGNATURE_FIELD!r}"
            )
            raise HttpError(400, message)
    _check_spec(model, request)
    signatures = serving.SignatureDefMap()
    signature = signatures.signature_def[SIGNATURE_NAME]
    signature.method_name = METHOD_NAME
    for tensors, infos in (
        (model.signature.inputs[:1], signature.inputs),
        (model.signature.outputs[:1], signature.outputs),
    ):
        for tensor in tensors:
            infos[tensor.name].CopyFrom(_tensor_info(tensor))
    response = serving.GetModelMetadataResponse(model_spec=_spec(model, ""))
    packed = response.metadata[SIGNATURE_FIELD]
    packed.type_url = SIGNATURE_TYPE
    packed.value = signatures.SerializeToString()
    return response


def _tensor_info(tensor: Tensor) -> tf.TensorInfo:
    return tf.TensorInfo(name=tensor.name, dtype=tf.DT_FLOAT, tensor_shape=_shape(tensor.shape))


def _shape(sizes: tuple[int, ...] | list[int]) -> tf.TensorShapeProto:
    return tf.TensorShapeProto(dim=[tf.TensorShapeProto.Dim(size=size) for size in sizes])


async def _predict(model: Model, request: serving.PredictRequest, caller: Caller) -> serving.PredictResponse:
    spec = _check_spec(model, request)
    if spec.signature_name not in ("", SIGNATURE_NAME):
        message = (
            f'Serving signature key "{spec.signature_name[:100]}" not found: there is only {SIGNATURE_NAME!r}'
        )
        raise HttpError(412, message)
    if request.ByteSize() > LARGE_BODY_BYTES:
        inputs = await model.in_pool(_read, model, request)
    else:
        inputs = _read(model, request)
    return _answer(model, await answers(model, inputs.field, inputs.tensor, inputs.pictures, caller))


def _answer(model: Model, found: Floats) -> serving.PredictResponse:
    response = serving.PredictResponse(model_spec=_spec(model, SIGNATURE_NAME))
    output = response.outputs[model.signature.outputs[0].name]
    output.dtype = tf.DT_FLOAT
    output.tensor_shape.CopyFrom(_shape(found.shape))
    output.float_val.extend(found.reshape(-1).tolist())
    return response


def _read(model: Model, request: serving.PredictRequest) -> Inputs:
    """The only input: numbers, or picture files.

    Raises:
        HttpError: 400, naming the field.
    """
    wanted = model.signature.inputs[0].name
    names = sorted(request.inputs)
    if names != [wanted]:
        found = ", ".join(name[:100] for name in names[:10]) or "nothing"
        raise HttpError(400, f"inputs must hold exactly the network's input, {wanted!r}; it holds {found}")
    _check_filter(model, list(request.output_filter))
    field = f"inputs[{wanted!r}]"
    tensor = request.inputs[wanted]
    if tensor.tensor_shape.unknown_rank:
        raise HttpError(400, f"{field}.tensor_shape must be known")
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if any(size < 0 for size in shape):
        raise HttpError(400, f"{field}.tensor_shape must be whole numbers from 0")
    if tensor.dtype == tf.DT_STRING:
        count = check_shape(shape, FILES, model.input_shape, f"{field}.tensor_shape")
        return _pictures(tensor, count, field)
    if tensor.dtype == tf.DT_FLOAT:
        count = check_shape(shape, "FP32", model.input_shape, f"{field}.tensor_shape")
        return _numbers(model, tensor, count, field)
    name = tf.DataType.Name(tensor.dtype) if tensor.dtype in tf.DataType.values() else str(tensor.dtype)
    raise HttpError(
        400,
        f"{field}.dtype must be DT_FLOAT (the network's input, normalised) or DT_STRING (picture files), not {name}",
    )


def _check_filter(model: Model, names: list[str]) -> None:
    there = model.signature.outputs[0].name
    for name in names:
        if name != there:
            message = (
                f"output tensor alias not found in signature: {name[:100]}; output_filter may hold {there!r}"
            )
            raise HttpError(400, message)
    if len(names) > 1:
        raise HttpError(400, f"duplicate output tensor alias: {there}; output_filter names it more than once")


def _pictures(tensor: tf.TensorProto, count: int, field: str) -> Inputs:
    field += ".string_val"
    if len(tensor.string_val) != count:
        raise HttpError(400, f"{field} holds {len(tensor.string_val)} elements, the shape says {count}")
    return Inputs(field, pictures=list(tensor.string_val))


def _numbers(model: Model, tensor: tf.TensorProto, count: int, field: str) -> Inputs:
    """From the raw content, else from the list of values, whose last one stands for all that are missing."""
    if tensor.tensor_content:
        field += ".tensor_content"
        if tensor.float_val:
            raise HttpError(400, f"{field} and float_val are both given: one of them is needed")
        return Inputs(field, read_raw(tensor.tensor_content, "FP32", count, model.signature, field))
    field += ".float_val"
    expected = count * int(np.prod(model.input_shape))
    given = len(tensor.float_val)
    if not 0 < given <= expected:
        raise HttpError(400, f"{field} holds {given} values, the shape says {expected}")
    numbers = np.empty(expected, "<f4")
    numbers[:given] = np.fromiter(tensor.float_val, "<f4", given)
    numbers[given:] = numbers[given - 1]
    return Inputs(field, read_raw(numbers.view(np.uint8).data, "FP32", count, model.signature, field))
