"""Models -> Markdown: every field of a kind, as the API server checks it.

Reads the generated schema, not the models, so that what is published is what is enforced.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lepton_operator.api.kind import Kind
from lepton_operator.crdgen import crd

Schema = dict[str, Any]

LIMITS = (
    ("minimum", "maximum", "{}"),
    ("minLength", "maxLength", "{} characters"),
    ("minItems", "maxItems", "{} items"),
    ("minProperties", "maxProperties", "{} entries"),
)
"""(lower bound, upper bound, how a bound is written)."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a kind: dotted path and schema."""

    path: str
    schema: Schema
    required: bool


def fields_of(kind: Kind, part: str) -> list[Field]:
    """All fields below `spec` or `status`, parents before children."""
    root = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return list(_below(root["properties"][part], part))


def _below(schema: Schema, path: str) -> Iterator[Field]:
    for name, child in schema.get("properties", {}).items():
        below = f"{path}.{name}"
        yield Field(below, child, name in schema.get("required", ()))
        item, mark = child, ""
        while "items" in item:
            item, mark = item["items"], f"{mark}[]"
        yield from _below(item, f"{below}{mark}")


def fields_table(kind: Kind, part: str) -> str:
    """The fields of `spec` or `status` as a table."""
    rows = [
        (
            f"`{field.path}`",
            _type(field.schema),
            "required" if field.required else _default(field.schema),
            limits(field.schema),
            _one_line(field.schema["description"]),
        )
        for field in fields_of(kind, part)
    ]
    return table(("field", "type", "default", "limits", "meaning"), rows)


def rules_table(kind: Kind) -> str:
    """What the API server refuses beyond the limits of single fields, with the sentence that it answers."""
    root = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec = root["properties"]["spec"]
    found = [("", root), ("spec", spec), *((field.path, field.schema) for field in fields_of(kind, "spec"))]
    rows = [
        (f"`{path or 'metadata.name'}`", _one_line(rule["message"]))
        for path, schema in found
        for rule in _rules(schema)
    ]
    return table(("at", "refused with"), rows)


def columns_table(kind: Kind) -> str:
    """What `kubectl get` prints."""
    rows = [
        (
            column.name.upper(),
            "`-o wide`" if column.priority else "",
            f"`{column.json_path}`",
            column.description,
        )
        for column in kind.columns
    ]
    return table(("column", "only with", "from", "meaning"), rows)


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table; bars in cells are escaped."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


def _rules(schema: Schema) -> list[Schema]:
    """Of the field itself and of the values of a map or list."""
    values = schema.get("items") or schema.get("additionalProperties")
    inner = values.get("x-kubernetes-validations", []) if isinstance(values, dict) else []
    own: list[Schema] = schema.get("x-kubernetes-validations", [])
    return [*own, *inner]


def _type(schema: Schema) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "items" in schema:
        return f"list of {_type(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"map of {_type(schema['additionalProperties'])}"
    if schema.get("format") == "date-time":
        return "time"
    return str(schema["type"])


def _default(schema: Schema) -> str:
    if "default" not in schema:
        return ""
    value = schema["default"]
    if isinstance(value, dict) and "properties" in schema:
        return "those of its fields"
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def limits(schema: Schema) -> str:
    """Bounds of a value in words, for example `1 to 64`; empty when it has none."""
    parts = [_range(schema, *bounds) for bounds in LIMITS]
    if "items" in schema:
        parts.append(_prefixed("each ", limits(schema["items"])))
    if "pattern" in schema:
        parts.append(f"`{schema['pattern']}`")
    return "; ".join(part for part in parts if part)


def _range(schema: Schema, lower: str, upper: str, form: str) -> str:
    """For example `1 to 64`, `above 0`, `at most 253 characters`."""
    least, most = schema.get(lower), schema.get(upper)
    after = bool(schema.get("exclusiveMinimum")) and lower == "minimum"
    before = bool(schema.get("exclusiveMaximum")) and upper == "maximum"
    if least is not None and most is not None and not (after or before):
        return form.format(f"{least} to {most}")
    parts = []
    if least is not None:
        parts.append(f"{'above' if after else 'at least'} {least}")
    if most is not None:
        parts.append(f"{'below' if before else 'at most'} {most}")
    return form.format(", ".join(parts)) if parts else ""


def _prefixed(prefix: str, text: str) -> str:
    return prefix + text if text else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
