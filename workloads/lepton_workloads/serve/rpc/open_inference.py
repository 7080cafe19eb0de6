"""The Open Inference Protocol (version 2) over gRPC; what it means is as in `open_inference`, its form over HTTP.

Typed contents are answered with typed contents, raw ones with raw ones.
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_grpc.md
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lepton_workloads import __version__
from lepton_workloads.serve.bodies.inputs import Inputs, answers
from lepton_workloads.serve.bodies.tensors import (
    FILES,
    LARGE_BODY_BYTES,
    PIXELS,
    check_datatype,
    check_shape,
    classes,
    pack_files,
    read_raw,
    unpack_files,
)
from lepton_workloads.serve.caller import MAX_SOURCE, Caller, is_source
from lepton_workloads.serve.engines.engine import Floats
from lepton_workloads.serve.http import HttpError
from lepton_workloads.serve.model import Model
from lepton_workloads.serve.rest.open_inference import MAX_ID, PLATFORMS, check_names
from lepton_workloads.serve.rpc.calls import Method
from lepton_workloads.serve.rpc.protos import open_inference_pb2 as v2

SERVICE = "inference.GRPCInferenceService"
EXTENSIONS = ["classification"]
TYPED = {"FP32": "fp32_contents", "FP64": "fp64_contents", PIXELS: "uint_contents", FILES: "bytes_contents"}
"""Where each datatype's elements are when they are not raw; FP16 has no such place."""
_ELEMENTS = {"FP32": "<f4", "FP64": "<f8", PIXELS: "<u4"}

_FIELD = "inputs[0]"

Parameters = Mapping[str, v2.InferParameter]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that has been read."""

    inputs: Inputs
    source: str | None
    raw: bool
    """Whether the answer is raw as well."""
    classes: int
    """How many classes are wanted; 0 for all probabilities."""


def methods(model: Model) -> list[Method]:
    """The methods of the service."""

    async def server_live(_: v2.ServerLiveRequest, __: Caller) -> v2.ServerLiveResponse:
        return v2.ServerLiveResponse(live=model.alive)

    async def server_ready(_: v2.ServerReadyRequest, __: Caller) -> v2.ServerReadyResponse:
        return v2.ServerReadyResponse(ready=_is_ready(model))

    async def model_ready(request: v2.ModelReadyRequest, _: Caller) -> v2.ModelReadyResponse:
        check_names(model, request.name, request.version)
        return v2.ModelReadyResponse(ready=_is_ready(model))

    async def server_metadata(_: v2.ServerMetadataRequest, __: Caller) -> v2.ServerMetadataResponse:
        return v2.ServerMetadataResponse(name="lepton", version=__version__, extensions=EXTENSIONS)

    async def model_metadata(request: v2.ModelMetadataRequest, _: Caller) -> v2.ModelMetadataResponse:
        check_names(model, request.name, request.version)
        return _metadata(model)

    async def model_infer(request: v2.ModelInferRequest, caller: Caller) -> v2.ModelInferResponse:
        return await _infer(model, request, caller)

    return [
        Method(SERVICE, "ServerLive", v2.ServerLiveRequest, server_live, open=True),
        Method(SERVICE, "ServerReady", v2.ServerReadyRequest, server_ready, open=True),
        Method(SERVICE, "ModelReady", v2.ModelReadyRequest, model_ready),
        Method(SERVICE, "ServerMetadata", v2.ServerMetadataRequest, server_metadata),
        Method(SERVICE, "ModelMetadata", v2.ModelMetadataRequest, model_metadata),
        Method(SERVICE, "ModelInfer", v2.ModelInferRequest, model_infer),
    ]


def _is_ready(model: Model) -> bool:
    return model.loaded and model.alive and not model.draining


def _metadata(model: Model) -> v2.ModelMetadataResponse:
    tensors = [
        v2.ModelMetadataResponse.TensorMetadata(name=one.name, datatype="FP32", shape=one.shape)
        for one in (model.signature.inputs[0], model.signature.outputs[0])
    ]
    return v2.ModelMetadataResponse(
        name=model.task.name,
        versions=[str(model.task.version_number)],
        platform=PLATFORMS[model.task.engine],
        inputs=tensors[:1],
        outputs=tensors[1:],
    )


async def _infer(model: Model, request: v2.ModelInferRequest, caller: Caller) -> v2.ModelInferResponse:
    check_names(model, request.model_name, request.model_version)
    if request.ByteSize() > LARGE_BODY_BYTES:
        asked = await model.in_pool(_read, model, request)
    else:
        asked = _read(model, request)
    if asked.source is not None:
        caller.source = asked.source
    if request.id:
        caller.request_id = request.id[:128]
    inputs = asked.inputs
    found = await answers(model, inputs.field, inputs.tensor, inputs.pictures, caller)
    return _answer(model, request.id, asked, found)


def _answer(model: Model, name: str, asked: Asked, found: Floats) -> v2.ModelInferResponse:
    response = v2.ModelInferResponse(
        model_name=model.task.name, model_version=str(model.task.version_number), id=name
    )
    output = response.outputs.add(name=model.signature.outputs[0].name, datatype="FP32", shape=found.shape)
    if asked.classes:
        texts = [text.encode() for text in classes(found, asked.classes, model.labels)]
        output.datatype = FILES
        output.shape[1] = asked.classes
        if asked.raw:
            response.raw_output_contents.append(pack_files(texts))
        else:
            output.contents.bytes_contents.extend(texts)
    elif asked.raw:
        response.raw_output_contents.append(found.astype("<f4", copy=False).tobytes())
    else:
        output.contents.fp32_contents.extend(found.reshape(-1).tolist())
    return response


def _read(model: Model, request: v2.ModelInferRequest) -> Asked:
    """What a request asks for.

    Raises:
        HttpError: 400, naming the field.
    """
    if len(request.id) > MAX_ID:
        raise HttpError(400, f"id must be a text of at most {MAX_ID} characters")
    source = None
    if "source" in request.parameters:
        parameter = request.parameters["source"]
        source = parameter.string_param
        if parameter.WhichOneof("parameter_choice") != "string_param" or not is_source(source):
            message = f"must be a text (string_param) of at most {MAX_SOURCE} printable characters"
            raise HttpError(400, f"parameters.source {message}")
    _check_parameters(request.parameters, "parameters")
    return Asked(_input(model, request), source, bool(request.raw_input_contents), _outputs(model, request))


def _input(model: Model, request: v2.ModelInferRequest) -> Inputs:
    """The only input: numbers, or picture files."""
    wanted = model.signature.inputs[0].name
    if len(request.inputs) != 1:
        raise HttpError(
            400, f"inputs holds {len(request.inputs)} tensors, it must be one, the network's input {wanted!r}"
        )
    one = request.inputs[0]
    if one.name != wanted:
        raise HttpError(400, f"{_FIELD}.name must be {wanted!r}, not {one.name[:100]!r}")
    datatype = check_datatype(one.datatype, f"{_FIELD}.datatype")
    if any(size < 0 for size in one.shape):
        raise HttpError(400, f"{_FIELD}.shape must be whole numbers from 0")
    count = check_shape(one.shape, datatype, model.input_shape, f"{_FIELD}.shape")
    _check_parameters(one.parameters, f"{_FIELD}.parameters")
    if request.raw_input_contents:
        return _raw_input(model, request, datatype, count)
    return _typed_input(model, one.contents, datatype, count)


def _raw_input(model: Model, request: v2.ModelInferRequest, datatype: str, count: int) -> Inputs:
    if len(request.raw_input_contents) != 1:
        found = len(request.raw_input_contents)
        raise HttpError(400, f"raw_input_contents holds {found} entries, it must be one for each input: 1")
    if request.inputs[0].contents.ByteSize():
        message = f"{_FIELD}.contents and raw_input_contents are both given: one of them is needed"
        raise HttpError(400, message)
    field = "raw_input_contents[0]"
    raw = request.raw_input_contents[0]
    if datatype == FILES:
        return Inputs(field, pictures=unpack_files(raw, count, field))
    return Inputs(field, read_raw(raw, datatype, count, model.signature, field))


def _typed_input(model: Model, contents: v2.InferTensorContents, datatype: str, count: int) -> Inputs:
    where = TYPED.get(datatype)
    if where is None:
        raise HttpError(400, f"{_FIELD}.datatype {datatype} is for raw_input_contents only: send FP32")
    field = f"{_FIELD}.contents.{where}"
    others = [descriptor.name for descriptor, _ in contents.ListFields() if descriptor.name != where]
    if others:
        raise HttpError(
            400, f"{_FIELD}.contents.{others[0]} is not for {datatype}, whose elements are {where}"
        )
    elements = getattr(contents, where)
    expected = count * (1 if datatype == FILES else int(np.prod(model.input_shape)))
    if len(elements) != expected:
        raise HttpError(400, f"{field} holds {len(elements)} elements, {_FIELD}.shape says {expected}")
    if datatype == FILES:
        return Inputs(field, pictures=list(elements))
    numbers = np.fromiter(elements, _ELEMENTS[datatype], len(elements))
    if datatype == PIXELS:
        if numbers.max(initial=0) > 255:
            raise HttpError(400, f"{field} holds {numbers.max()}: pixels are 0 to 255")
        numbers = numbers.astype(np.uint8)
    return Inputs(field, read_raw(numbers.view(np.uint8).data, datatype, count, model.signature, field))


def _outputs(model: Model, request: v2.ModelInferRequest) -> int:
    """How many classes of the only output are wanted, 0 for all probabilities."""
    if not request.outputs:
        return 0
    wanted = model.signature.outputs[0].name
    if len(request.outputs) != 1:
        raise HttpError(
            400,
            f"outputs holds {len(request.outputs)} names, it must be one, the network's output {wanted!r}",
        )
    one = request.outputs[0]
    if one.name != wanted:
        raise HttpError(400, f"outputs[0].name must be {wanted!r}, not {one.name[:100]!r}")
    _check_parameters(one.parameters, "outputs[0].parameters")
    if "classification" not in one.parameters:
        return 0
    parameter = one.parameters["classification"]
    count = parameter.int64_param or parameter.uint64_param
    if parameter.WhichOneof("parameter_choice") not in ("int64_param", "uint64_param") or count < 0:
        raise HttpError(
            400, "outputs[0].parameters.classification must be a whole number (int64_param) from 1"
        )
    return min(count, len(model.labels))


def _check_parameters(parameters: Parameters, field: str) -> None:
    for name in parameters:
        if name.startswith("shared_memory_"):
            raise HttpError(400, f"{field}.{name[:60]}: shared memory is not possible, send the data")
