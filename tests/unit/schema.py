"""What the API server does with a CRD's schema: defaults and validation, for tests without one."""

import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from lepton_operator.api.kind import Kind
from lepton_operator.crdgen import crd

Schema = dict[str, Any]


def root_schema(kind: Kind) -> Schema:
    found: Schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def with_defaults(schema: Schema, value: Any) -> Any:
    """The value with the schema's defaults, parents before children."""
    if isinstance(value, dict):
        value = dict(value)
        for name, child in schema.get("properties", {}).items():
            if name not in value and "default" in child:
                value[name] = deepcopy(child["default"])
            if name in value:
                value[name] = with_defaults(child, value[name])
    if isinstance(value, list):
        value = [with_defaults(schema["items"], item) for item in value]
    return value


TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


def problems(schema: Schema, value: Any, path: str = "") -> list[str]:
    """What a structural schema refuses of a value; unknown fields too, as `kubectl apply` does."""
    kinds = ("integer", "string") if schema.get("x-kubernetes-int-or-string") else (schema["type"],)
    fits = any(isinstance(value, TYPES[kind]) for kind in kinds)
    if not fits or (isinstance(value, bool) and "boolean" not in kinds):
        return [f"{path}: not {' or '.join(kinds)}"]
    found = [f"{path}: {keyword}" for keyword, holds in _keywords(schema, value) if not holds]
    if isinstance(value, list):
        for at, item in enumerate(value):
            found += problems(schema["items"], item, f"{path}[{at}]")
    if isinstance(value, dict):
        found += [f"{path}.{name}: required" for name in schema.get("required", ()) if name not in value]
        for name, item in value.items():
            if schema.get("x-kubernetes-preserve-unknown-fields"):
                break
            child = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
            found += problems(child, item, f"{path}.{name}") if child else [f"{path}.{name}: unknown"]
    return found


def _keywords(schema: Schema, value: Any) -> Iterator[tuple[str, bool]]:
    if "enum" in schema:
        yield "enum", value in schema["enum"]
    if isinstance(value, str):
        yield "pattern", re.search(schema.get("pattern", ""), value) is not None
    if isinstance(value, (str, list, dict)):
        suffix = {str: "Length", list: "Items", dict: "Properties"}[type(value)]
        yield f"min{suffix}", len(value) >= schema.get(f"min{suffix}", 0)
        yield f"max{suffix}", len(value) <= schema.get(f"max{suffix}", len(value))
    elif "type" in schema:
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        yield "minimum", value > low if schema.get("exclusiveMinimum") else value >= low
        yield "maximum", value < high if schema.get("exclusiveMaximum") else value <= high
