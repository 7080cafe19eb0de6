"""TensorFlow Serving's REST protocol: predict, model status, model metadata.

Errors have its form, `{"error": ...}`, and its codes: 404 unknown model or version, 400 what can't be read.
Differences: a wrong method is 405 (there 400), and a `{"b64": ...}` instance is a picture file, brought to
the network's input by the signature's preprocessing. Numbers are the network's input itself, normalised.
https://www.tensorflow.org/tfx/serving/api_rest
"""

import base64
import binascii
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lepton_workloads.contract.artifact import Tensor
from lepton_workloads.serve.bodies.inputs import answers
from lepton_workloads.serve.bodies.json_tensors import holds_no_booleans, load_object, read_tensor
from lepton_workloads.serve.bodies.tensors import LARGE_BODY_BYTES, check_count
from lepton_workloads.serve.engines.engine import Floats
from lepton_workloads.serve.http import HttpError, Request, Response, json_response
from lepton_workloads.serve.model import Model
from lepton_workloads.serve.router import Handler, Route

SIGNATURE_NAME = "serving_default"
METHOD_NAME = "tensorflow/serving/predict"


@dataclass(slots=True)
class Inputs:
    """A predict request that has been read: numbers, or picture files that must be decoded."""

    row_form: bool
    field: str
    tensor: Floats | None
    pictures: list[bytes]


def routes(model: Model) -> list[Route]:
    """The routes of the protocol, each with and without a version."""
    base = "/v1/models/{model}"
    found: list[Route] = []
    for path in (base, base + "/versions/{version}", base + "/labels/{label}"):
        found += [
            Route("GET", path, "state of the version", checked(model, _status)),
            Route("GET", path + "/metadata", "inputs and outputs", checked(model, _metadata)),
            Route("POST", path + ":predict", "predictions", checked(model, _predict), reads_body=True),
        ]
    return found


def checked(model: Model, handler: Callable[[Model, Request], Awaitable[Response]]) -> Handler:
    """The handler of a path with {model} and perhaps {version}, which answers 404 for others than those served."""

    async def handle(request: Request) -> Response:
        params = request.params
        check_names(model, params["model"], _version(model, params), params.get("label"))
        return await handler(model, request)

    return handle


def _version(model: Model, params: Mapping[str, str]) -> int | None:
    text = params.get("version")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        here = f"this server has {model.task.name}, version {model.task.version_number}"
        raise HttpError(400, f"Malformed request: version {text[:40]!r} is no whole number; {here}")
    return int(text)


def check_names(model: Model, name: str, version: int | None, label: str | None) -> None:
    """Raises HttpError, 404 for another model or version, 400 for a label: there are none."""
    task = model.task
    here = f"this server has {task.name}, version {task.version_number}"
    if name != task.name:
        wanted = f"Latest({name[:100]})" if version is None else f"Specific({name[:100]}, {version})"
        raise HttpError(404, f"Servable not found for request: {wanted}; {here}")
    if version is not None and version != task.version_number:
        raise HttpError(404, f"Servable not found for request: Specific({name}, {version}); {here}")
    if label is not None:
        raise HttpError(400, f"Unrecognized servable version label: {label[:100]}; {here}")


def state_of(model: Model) -> str:
    """The version's state, one of TensorFlow Serving's."""
    return "UNLOADING" if model.draining else "AVAILABLE" if model.loaded else "LOADING"


async def _status(model: Model, _: Request) -> Response:
    status = {"error_code": "OK", "error_message": ""}
    version = {"version": str(model.task.version_number), "state": state_of(model), "status": status}
    return json_response({"model_version_status": [version]})


async def _metadata(model: Model, _: Request) -> Response:
    signature = {
        "inputs": _tensor_infos(model.signature.inputs[:1]),
        "outputs": _tensor_infos(model.signature.outputs[:1]),
        "method_name": METHOD_NAME,
        "defaults": {},
    }
    version = str(model.task.version_number)
    return json_response(
        {
            "model_spec": {"name": model.task.name, "signature_name": "", "version": version},
            "metadata": {"signature_def": {"signature_def": {SIGNATURE_NAME: signature}}},
        }
    )


def _tensor_infos(tensors: Iterable[Tensor]) -> dict[str, Any]:
    return {
        tensor.name: {
            "dtype": "DT_FLOAT",
            "tensor_shape": {
                "dim": [{"size": str(size), "name": ""} for size in tensor.shape],
                "unknown_rank": False,
            },
            "name": tensor.name,
        }
        for tensor in tensors
    }


async def _predict(model: Model, request: Request) -> Response:
    if request.media_type.startswith(("image/", "multipart/", "audio/", "video/")):
        raise HttpError(
            415,
            f"Content-Type {request.media_type} is not accepted: send JSON, or a picture file to /classify",
        )
    if len(request.body) > LARGE_BODY_BYTES:
        inputs = await model.in_pool(_read, model, request.body)
    else:
        inputs = _read(model, request.body)
    found = await answers(model, inputs.field, inputs.tensor, inputs.pictures, request.caller)
    return json_response({"predictions" if inputs.row_form else "outputs": found})


def _read(model: Model, body: bytes) -> Inputs:
    return read_inputs(model, body, read_document(model, body))


def read_document(model: Model, body: bytes) -> dict[str, Any]:
    """The JSON object of a body.

    Raises:
        HttpError: 400.
    """
    return load_object(body, model.input_shape, "instances or inputs")


def read_inputs(model: Model, body: bytes, document: dict[str, Any]) -> Inputs:
    """The inputs in the document of a body.

    Raises:
        HttpError: 400, naming the field.
    """
    name = document.get("signature_name", "")
    if name not in ("", SIGNATURE_NAME):
        raise HttpError(400, f"signature_name: there is only {SIGNATURE_NAME!r}")
    if ("instances" in document) == ("inputs" in document):
        raise HttpError(400, "the body must hold one of instances (row form) and inputs (column form)")
    row_form = "instances" in document
    field = "instances" if row_form else "inputs"
    values = document[field]
    tensor = model.signature.inputs[0].name
    if row_form:
        values = _named_rows(values, tensor)
    elif isinstance(values, dict) and "b64" not in values:
        values = _named(values, tensor, field)
        field = f"inputs.{tensor}"
    if not isinstance(values, list):
        raise HttpError(400, f"{field} must be a list, one entry for each input")
    if any(isinstance(value, dict) for value in values):
        check_count(len(values), model.input_shape, field)
        pictures = [_picture(value, f"{field}[{index}]") for index, value in enumerate(values)]
        return Inputs(row_form, field, None, pictures)
    no_booleans = holds_no_booleans(body, {**document, "instances" if row_form else "inputs": 0})
    return Inputs(row_form, field, read_tensor(values, model.input_shape, field, no_booleans), [])


def _named_rows(values: Any, tensor: str) -> Any:
    """Instances of the form {"name of the input": value} as their values; others as they are."""
    if not isinstance(values, list) or not values:
        return values
    if not isinstance(values[0], dict) or "b64" in values[0]:
        return values
    return [_named(value, tensor, f"instances[{index}]") for index, value in enumerate(values)]


def _named(value: Any, tensor: str, field: str) -> Any:
    if not isinstance(value, dict) or set(value) != {tensor}:
        raise HttpError(400, f"{field} must hold exactly the network's input, {tensor!r}")
    return value[tensor]


def _picture(value: Any, field: str) -> bytes:
    if not isinstance(value, dict) or set(value) != {"b64"} or not isinstance(value["b64"], str):
        raise HttpError(400, f'{field} must be {{"b64": "..."}} as the others are')
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError):
        raise HttpError(400, f"{field}.b64 is not base64") from None
