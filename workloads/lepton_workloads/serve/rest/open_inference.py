"""The Open Inference Protocol (version 2) over HTTP: health, metadata, infer.

Errors have its form, `{"error": ...}`: 404 unknown model or version, 400 what can't be read; both health routes of
a server or model that is not ready are 503. Extensions: `binary_tensor_data` and `classification`.
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

import base64
import binascii
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from lepton_workloads import __version__
from lepton_workloads.contract.artifact import Tensor
from lepton_workloads.serve.bodies import binary_tensors
from lepton_workloads.serve.bodies.inputs import answers
from lepton_workloads.serve.bodies.json_tensors import flatten, holds_no_booleans, load_object, pack
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
from lepton_workloads.serve.caller import MAX_SOURCE, is_source
from lepton_workloads.serve.engines.engine import Floats
from lepton_workloads.serve.http import HttpError, Request, Response, json_response
from lepton_workloads.serve.model import Model
from lepton_workloads.serve.router import Handler, Route

EXTENSIONS = ["binary_tensor_data", "classification"]
PLATFORMS = {"litert": "litert_tflite", "tensorflow": "tensorflow_savedmodel"}
MAX_ID = 1024

_FIELD = "inputs[0]"
_DATA = f"{_FIELD}.data"


@dataclass(slots=True)
class Asked:
    """An infer request that has been read: numbers, or picture files that must be decoded."""

    id: str | None
    source: str | None
    tensor: Floats | None
    pictures: list[bytes]
    binary: bool
    """Whether the answer's data are wanted as bytes behind the JSON."""
    classes: int
    """How many classes are wanted; 0 for all probabilities."""


def routes(model: Model) -> list[Route]:
    """The routes of the protocol, those of a model with and without a version."""

    async def server_metadata(_: Request) -> Response:
        return json_response({"name": "lepton", "version": __version__, "extensions": EXTENSIONS})

    async def live(_: Request) -> Response:
        return json_response({"live": model.alive}, 200 if model.alive else 503)

    async def ready(_: Request) -> Response:
        return _readiness(model, {"live": model.alive})

    found = [
        Route("GET", "/v2", "name and extensions of the server", server_metadata),
        Route("GET", "/v2/", "name and extensions of the server", server_metadata),
        Route("GET", "/v2/health/live", "200 while the process works", live, open=True),
        Route("GET", "/v2/health/ready", "200 once the model answers", ready, open=True),
    ]
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        found += [
            Route("POST", path + "/infer", "predictions", _checked(model, _infer), reads_body=True),
            Route("GET", path, "inputs and outputs", _checked(model, _metadata)),
            Route("GET", path + "/ready", "200 once the model answers", _checked(model, _ready)),
        ]
    return found


def check_names(model: Model, name: str, number: str) -> None:
    """Raises HttpError 404 for another model or version; an empty number stands for the one there is."""
    task = model.task
    here = f"this server has {task.name}, version {task.version_number}"
    if name != task.name:
        raise HttpError(404, f"there is no model {name[:100]!r}; {here}")
    if number not in ("", str(task.version_number), task.version):
        raise HttpError(404, f"model {name} has no version {number[:40]!r}; {here}")


def _checked(model: Model, handler: Callable[[Model, Request], Awaitable[Response]]) -> Handler:
    async def handle(request: Request) -> Response:
        check_names(model, request.params["model"], request.params.get("version", ""))
        return await handler(model, request)

    return handle


def _readiness(model: Model, content: dict[str, Any]) -> Response:
    if model.draining:
        return json_response({**content, "ready": False, "error": "the server is shutting down"}, 503)
    if not model.loaded or not model.alive:
        return json_response({**content, "ready": False, "error": "the model is not loaded"}, 503)
    return json_response({**content, "ready": True})


async def _ready(model: Model, _: Request) -> Response:
    return _readiness(model, {"name": model.task.name})


async def _metadata(model: Model, _: Request) -> Response:
    return json_response(
        {
            "name": model.task.name,
            "versions": [str(model.task.version_number)],
            "platform": PLATFORMS[model.task.engine],
            "inputs": _tensors(model.signature.inputs[:1]),
            "outputs": _tensors(model.signature.outputs[:1]),
        }
    )


def _tensors(tensors: list[Tensor]) -> list[dict[str, Any]]:
    return [{"name": one.name, "datatype": "FP32", "shape": one.shape} for one in tensors]


async def _infer(model: Model, request: Request) -> Response:
    if request.media_type.startswith(("image/", "multipart/", "audio/", "video/")):
        raise HttpError(
            415,
            f"Content-Type {request.media_type} is not accepted: send JSON, or a picture file to /classify",
        )
    length = request.header(b"inference-header-content-length")
    if len(request.body) > LARGE_BODY_BYTES:
        asked = await model.in_pool(_read, model, request.body, length)
    else:
        asked = _read(model, request.body, length)
    caller = request.caller
    if asked.source is not None:
        caller.source = asked.source
    if asked.id:
        caller.request_id = asked.id[:128]
    return _answer(model, asked, await answers(model, _DATA, asked.tensor, asked.pictures, caller))


def _answer(model: Model, asked: Asked, found: Floats) -> Response:
    output: dict[str, Any] = {"name": model.signature.outputs[0].name}
    data: Any
    if asked.classes:
        texts = classes(found, asked.classes, model.labels)
        output |= {"datatype": FILES, "shape": [len(found), len(texts) // len(found)]}
        data = pack_files([text.encode() for text in texts]) if asked.binary else texts
    else:
        output |= {"datatype": "FP32", "shape": found.shape}
        data = found.tobytes() if asked.binary else found.reshape(-1)
    document: dict[str, Any] = {
        "model_name": model.task.name,
        "model_version": str(model.task.version_number),
    }
    if asked.id is not None:
        document["id"] = asked.id
    document["outputs"] = [output]
    if asked.binary:
        output["parameters"] = {"binary_data_size": len(data)}
        return binary_tensors.response(document, data)
    output["data"] = data
    return json_response(document)


def _read(model: Model, body: bytes, length: str) -> Asked:
    """What a body asks for.

    Raises:
        HttpError: 400, naming the field.
    """
    text, rest = binary_tensors.split(body, length)
    hint = "" if length else f"; before binary data the header {binary_tensors.HEADER} is needed"
    document = load_object(text, model.input_shape, "inputs", hint)
    name = document.get("id")
    if name is not None and not (isinstance(name, str) and len(name) <= MAX_ID):
        raise HttpError(400, f"id must be a text of at most {MAX_ID} characters")
    parameters = _parameters(document, "")
    source = parameters.get("source")
    if source is not None and not (isinstance(source, str) and is_source(source)):
        raise HttpError(400, f"parameters.source must be a text of at most {MAX_SOURCE} printable characters")
    binary = _boolean(parameters, "binary_data_output", False, "parameters")
    binary, count = _outputs(document.get("outputs"), model, binary)
    tensor, pictures = _input(document, model, text, rest)
    return Asked(name, source, tensor, pictures, binary, count)


def _input(
    document: dict[str, Any], model: Model, text: bytes | memoryview, rest: memoryview
) -> tuple[Floats | None, list[bytes]]:
    """The only input: numbers, or picture files."""
    inputs = document.get("inputs")
    wanted = model.signature.inputs[0].name
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise HttpError(400, f"inputs must be a list of one object, the network's input {wanted!r}")
    one: dict[str, Any] = inputs[0]
    if one.get("name") != wanted:
        raise HttpError(400, f"{_FIELD}.name must be {wanted!r}, not {str(one.get('name'))[:100]!r}")
    datatype = check_datatype(one.get("datatype"), f"{_FIELD}.datatype")
    shape = one.get("shape")
    if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
        raise HttpError(400, f"{_FIELD}.shape must be a list of whole numbers from 0")
    count = check_shape(shape, datatype, model.input_shape, f"{_FIELD}.shape")
    size = _parameters(one, _FIELD + ".").get("binary_data_size")
    field = f"{_FIELD}.data"
    if size is None:
        if rest:
            raise HttpError(
                400, f"{len(rest)} bytes follow the JSON: {_FIELD}.parameters.binary_data_size is missing"
            )
        data = one.get("data")
        if not isinstance(data, list):
            raise HttpError(400, f"{field} must be a list, or {_FIELD}.parameters.binary_data_size be given")
        if datatype == FILES:
            return None, _files(data, shape, field)
        no_booleans = holds_no_booleans(bytes(text), {**document, "inputs": [{**one, "data": 0}]})
        raw = _numbers(data, shape, datatype, field, no_booleans)
        return read_raw(raw, PIXELS if datatype == PIXELS else "FP32", count, model.signature, field), []
    if "data" in one:
        raise HttpError(400, f"{_FIELD} has both data and parameters.binary_data_size: one of them is needed")
    behind = binary_tensors.tensor_bytes(size, rest, f"{_FIELD}.parameters.binary_data_size")
    field = f"the binary data of {_FIELD}"
    if datatype == FILES:
        return None, unpack_files(behind, count, field)
    return read_raw(behind, datatype, count, model.signature, field), []


def _outputs(outputs: Any, model: Model, binary: bool) -> tuple[bool, int]:
    """Whether the data of the only output are wanted as bytes, and how many classes of it."""
    if outputs is None or outputs == []:
        return binary, 0
    wanted = model.signature.outputs[0].name
    if not isinstance(outputs, list) or len(outputs) != 1 or not isinstance(outputs[0], dict):
        raise HttpError(400, f"outputs must be a list of one object, the network's output {wanted!r}")
    if outputs[0].get("name") != wanted:
        raise HttpError(400, f"outputs[0].name must be {wanted!r}, not {str(outputs[0].get('name'))[:100]!r}")
    parameters = _parameters(outputs[0], "outputs[0].")
    binary = _boolean(parameters, "binary_data", binary, "outputs[0].parameters")
    if "classification" not in parameters:
        return binary, 0
    count = parameters["classification"]
    if type(count) is not int or count < 1:
        raise HttpError(400, "outputs[0].parameters.classification must be a whole number from 1")
    return binary, min(count, len(model.labels))


def _parameters(container: dict[str, Any], prefix: str) -> dict[str, Any]:
    parameters = container.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise HttpError(400, f"{prefix}parameters must be an object")
    for name, value in parameters.items():
        if name.startswith("shared_memory_"):
            raise HttpError(
                400, f"{prefix}parameters.{name[:60]}: shared memory is not possible, send the data"
            )
        if not isinstance(value, str | int | float):
            raise HttpError(400, f"{prefix}parameters.{name[:60]} must be a text, a number or a boolean")
    return parameters


def _boolean(parameters: dict[str, Any], name: str, default: bool, prefix: str) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise HttpError(400, f"{prefix}.{name} must be true or false")
    return value


def _numbers(data: list[Any], shape: list[int], datatype: str, field: str, no_booleans: bool) -> bytes:
    """A flat or nested list as raw float32, or as bytes for UINT8."""
    expected = f"it must be numbers, flat or nested by the shape {shape}"
    if datatype == "FP16":
        raise HttpError(400, f"{_FIELD}.datatype FP16 is for binary data only: JSON has FP32")
    flat: list[Any] | None = data
    if data and type(data[0]) is list:
        flat = flatten(data, tuple(shape[1:])) if len(data) == shape[0] else None
    if flat is None:
        raise HttpError(400, f"{field} is ragged, or its lists are not those of the shape; {expected}")
    if len(flat) != math.prod(shape):
        raise HttpError(400, f"{field} holds {len(flat)} values; {expected}")
    if datatype != PIXELS:
        return pack(flat, field, expected, no_booleans)
    if no_booleans or bool not in set(map(type, flat)):
        try:
            return bytes(flat)
        except (TypeError, ValueError):
            pass  # told below, as booleans are
    raise HttpError(400, f"{field} holds something that is not a whole number from 0 to 255; {expected}")


def _files(data: list[Any], shape: list[int], field: str) -> list[bytes]:
    """Picture files out of base64 texts, flat or one in a list of its own."""
    if len(data) != shape[0]:
        raise HttpError(400, f"{field} holds {len(data)} elements, {_FIELD}.shape says {shape[0]}")
    files = []
    for index, value in enumerate(data):
        text = value[0] if isinstance(value, list) and len(value) == 1 and len(shape) == 2 else value
        if not isinstance(text, str):
            raise HttpError(400, f"{field}[{index}] must be a picture file as a text in base64")
        try:
            files.append(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError):
            raise HttpError(400, f"{field}[{index}] is not base64") from None
    return files
