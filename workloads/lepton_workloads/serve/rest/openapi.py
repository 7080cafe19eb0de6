"""`GET /openapi.json`: the routes as an OpenAPI 3.1 document, with the shapes and labels of the model served.

What a route takes and gives is said here by its path's end, so that a protocol stands in one place only; a route
that is not known here is listed with its summary and the errors that every route has.
https://spec.openapis.org/oas/v3.1.0
"""

import re
from collections.abc import Callable
from typing import Any

import orjson

from lepton_workloads.contract.serving import SOURCE_HEADER
from lepton_workloads.serve.bodies.tensors import FILES, PIXELS, max_inputs
from lepton_workloads.serve.caller import MAX_SOURCE
from lepton_workloads.serve.http import Request, Response
from lepton_workloads.serve.model import Model
from lepton_workloads.serve.router import Route, Router

Schema = dict[str, Any]

PICTURE_TYPES = (
    "image/jpeg",
    "image/png",
    "image/webp",
    "image/bmp",
    "image/gif",
    "application/octet-stream",
)
_PARAMETER = re.compile(r"\{(\w+)\}")
_ERRORS = {
    "400": "What was sent can't be read or used; the sentence names the field.",
    "401": "A bearer token is needed.",
    "404": "There is no such model, version or label.",
    "408": "The body took too long.",
    "411": "A body is needed.",
    "413": "The body is too large.",
    "415": "Bodies of this type are not accepted.",
    "500": "A fault of the server; its log says more.",
    "501": "This version can't do that.",
    "503": "Not ready, or too many requests; Retry-After says when to try again.",
    "504": "It took too long.",
}
_WITH_BODY = ("400", "408", "411", "413", "415", "503", "504")


def route(model: Model, router: Router) -> Route:
    """The route of the document; it is put together when it is first asked for, after all routes were added."""
    written: list[bytes] = []

    async def openapi(_: Request) -> Response:
        if not written:
            written.append(orjson.dumps(document(model, router.routes)))
        return Response(written[0])

    return Route("GET", "/openapi.json", "this API as an OpenAPI 3.1 document", openapi)


def document(model: Model, routes: list[Route]) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for one in routes:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(model, one)
    task = model.task
    content: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": f"Lepton model {task.name}",
            "version": task.version,
            "description": f"Predicts one of {len(model.labels)} classes for pictures or tensors of shape "
            f"{list(model.input_shape)}. Bodies have at most {task.max_request_bytes} bytes.",
        },
        "paths": paths,
        "components": {"schemas": _schemas(model)},
    }
    if task.tokens:
        content["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return content


def _operation(model: Model, one: Route) -> dict[str, Any]:
    found = next((describe for end, describe in _DESCRIBED.items() if _ends(one, end)), None)
    described = found(model) if found else {}
    parameters = [_path_parameter(model, name) for name in _PARAMETER.findall(one.path)]
    parameters += described.get("parameters", [])
    if one.reads_body:
        parameters.append(_source())
    operation: dict[str, Any] = {
        "operationId": _PARAMETER.sub(r"by_\1", one.method.lower() + one.path)
        .replace("/", "_")
        .replace(":", "_"),
        "summary": one.summary,
        "parameters": parameters,
        "responses": {"200": described.get("answer", _answer({})), **_error_responses(model, one)},
    }
    if one.reads_body:
        any_body: Schema = {"application/octet-stream": {"schema": {}}}
        operation["requestBody"] = {"required": True, "content": described.get("body", any_body)}
    if model.task.tokens and not one.open:
        operation["security"] = [{"token": []}]
    return operation


def _ends(one: Route, end: str) -> bool:
    """Whether a route is the one of `METHOD path`, where the path may have more in front of it after a `*`."""
    method, _, path = end.partition(" ")
    return one.method == method and (
        one.path.endswith(path[1:]) if path.startswith("*") else one.path == path
    )


def _error_responses(model: Model, one: Route) -> dict[str, Any]:
    codes = {"500", "503"}
    if one.reads_body:
        codes |= {*_WITH_BODY, "501"}
    if "{" in one.path:
        codes |= {"400", "404"}
    if model.task.tokens and not one.open:
        codes.add("401")
    error = {"application/json": {"schema": _reference("Error")}}
    return {code: {"description": _ERRORS[code], "content": error} for code in sorted(codes)}


def _path_parameter(model: Model, name: str) -> dict[str, Any]:
    examples = {"model": model.task.name, "version": str(model.task.version_number), "label": "stable"}
    schema: Schema = {"type": "string", "minLength": 1, "pattern": "^[^/:]+$"}
    if name in examples:
        schema["examples"] = [examples[name]]
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _source() -> dict[str, Any]:
    text = "Which camera or machine the pictures are from."
    schema = {"type": "string", "maxLength": MAX_SOURCE}
    return {"name": SOURCE_HEADER, "in": "header", "description": text, "schema": schema}


def _query(name: str, description: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _answer(schema: Schema, media_type: str = "application/json") -> dict[str, Any]:
    return {"description": "The answer.", "content": {media_type: {"schema": schema}}}


def _json_body(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": _reference(name)}}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: dict[str, Schema], *required: str) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required or properties)}


def _nested(shape: tuple[int, ...]) -> Schema:
    schema: Schema = {"type": "number"}
    for size in reversed(shape):
        schema = {"type": "array", "items": schema, "minItems": size, "maxItems": size}
    return schema


def _several(items: Schema, most: int) -> Schema:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": most}


def _upload_body(several: bool) -> dict[str, Any]:
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    files = _several(file, 32) if several else file
    form = {"multipart/form-data": {"schema": _object({"file": files})}}
    return {**{kind: {"schema": {}} for kind in PICTURE_TYPES}, **form}


def _schemas(model: Model) -> dict[str, Schema]:
    count = len(model.labels)
    probability: Schema = {"type": "number", "minimum": 0, "maximum": 1}
    row = _several({"type": "number"}, count) | {"minItems": count}
    most = max_inputs(model.input_shape)
    picture = _object({"b64": {"type": "string", "contentEncoding": "base64"}}) | {
        "additionalProperties": False
    }
    name = model.signature.inputs[0].name
    one_of = [_nested(model.input_shape), picture]
    named = [_object({name: value}) | {"additionalProperties": False} for value in one_of]
    predictions = _several(_reference("Class"), count)
    signature: Schema = {"type": "string", "enum": ["", "serving_default"]}
    return {
        "Error": _object({"error": {"type": "string"}}),
        "Class": _object(
            {
                "label": {"type": "string"},
                "index": {"type": "integer", "minimum": 0, "maximum": count - 1},
                "probability": probability,
            }
        ),
        "Classified": _object(
            {
                "model": {"type": "string"},
                "version": {"type": "string"},
                "predictions": predictions,
                "files": _several(_object({"name": {"type": "string"}, "predictions": predictions}), 32),
            },
            "model",
            "version",
        ),
        "Predict": {
            "oneOf": [
                _object(
                    {"instances": _several({"anyOf": [*one_of, *named]}, most), "signature_name": signature},
                    "instances",
                ),
                _object(
                    {
                        "inputs": {
                            "anyOf": [
                                _several({"anyOf": one_of}, most),
                                _object({name: _several({"anyOf": one_of}, most)}),
                            ]
                        },
                        "signature_name": signature,
                    },
                    "inputs",
                ),
            ]
        },
        "Predicted": {
            "oneOf": [
                _object({"predictions": _several(row, most)}),
                _object({"outputs": _several(row, most)}),
            ]
        },
        "Infer": _infer(model),
        "Inferred": _object(
            {
                "model_name": {"type": "string"},
                "model_version": {"type": "string"},
                "id": {"type": "string"},
                "outputs": {"type": "array", "items": {"type": "object"}, "minItems": 1, "maxItems": 1},
            },
            "model_name",
            "outputs",
        ),
    }


def _infer(model: Model) -> Schema:
    sizes: list[Schema] = [{"type": "integer", "minimum": 1, "maximum": max_inputs(model.input_shape)}]
    sizes += [{"const": size} for size in model.input_shape]
    one: dict[str, Schema] = {
        "name": {"const": model.signature.inputs[0].name},
        "datatype": {"enum": ["FP32", "FP64", PIXELS, FILES]},
        "shape": {"type": "array", "prefixItems": sizes, "minItems": 1, "maxItems": len(sizes)},
        "data": {"type": "array"},
        "parameters": {"type": "object"},
    }
    output = _object(
        {"name": {"const": model.signature.outputs[0].name}, "parameters": {"type": "object"}}, "name"
    )
    return _object(
        {
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "inputs": {
                "type": "array",
                "items": _object(one, "name", "datatype", "shape"),
                "minItems": 1,
                "maxItems": 1,
            },
            "outputs": {"type": "array", "items": output, "maxItems": 1},
        },
        "inputs",
    )


def _classify(model: Model) -> dict[str, Any]:
    top = {"type": "integer", "minimum": 1, "default": 5}
    return {
        "parameters": [_query("top", "How many classes.", top)],
        "body": _upload_body(several=True),
        "answer": _answer(_reference("Classified")),
    }


def _explain(model: Model) -> dict[str, Any]:
    answer = _answer({}, "image/png")
    answer["content"]["application/json"] = {"schema": {"type": "object"}}
    return {
        "parameters": [
            _query("class", "A label, or its index; by default what is predicted.", {"type": "string"}),
            _query("format", "A picture, or numbers.", {"enum": ["png", "json"], "default": "png"}),
            _query("size", "Pixels of the longer side of the picture.", {"type": "integer", "minimum": 1}),
        ],
        "body": _upload_body(several=False),
        "answer": answer,
    }


def _infer_operation(model: Model) -> dict[str, Any]:
    length = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "description": "Bytes of JSON, where binary data follow it.",
        "schema": {"type": "integer", "minimum": 0},
    }
    binary: Schema = {"application/octet-stream": {"schema": {}}}
    return {
        "parameters": [length],
        "body": {**_json_body("Infer"), **binary},
        "answer": _answer(_reference("Inferred")),
    }


_DESCRIBED: dict[str, Callable[[Model], dict[str, Any]]] = {
    "POST /classify": _classify,
    "POST /explain": _explain,
    "POST *:predict": lambda _: {"body": _json_body("Predict"), "answer": _answer(_reference("Predicted"))},
    "POST *:explain": lambda _: {
        "body": _json_body("Predict"),
        "answer": _answer(_object({"explanations": {"type": "array", "items": {"type": "object"}}})),
    },
    "POST */infer": _infer_operation,
    "GET /": lambda _: {
        "answer": {
            "description": "A list, or a page for browsers.",
            "content": {"application/json": {"schema": {"type": "object"}}, "text/html": {"schema": {}}},
        }
    },
    "GET /metrics": lambda _: {"answer": _answer({"type": "string"}, "text/plain")},
}
"""`METHOD path` or `METHOD *end of the path` -> what is said about the route beside its errors."""
