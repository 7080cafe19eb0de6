"""The tests' own reading of schemas refuses what it should."""

from typing import Any

import pytest

from tests.unit.schema import problems, with_defaults

SCHEMA = {
    "type": "object",
    "required": ["a"],
    "properties": {
        "a": {"type": "integer", "minimum": 0, "exclusiveMinimum": True, "maximum": 9},
        "b": {"type": "array", "items": {"type": "string", "maxLength": 2}, "maxItems": 2},
        "c": {"x-kubernetes-int-or-string": True, "pattern": "^[0-9]+m?$"},
        "d": {"type": "object", "default": {}, "properties": {"e": {"type": "string", "default": "x"}}},
        "f": {"type": "object", "additionalProperties": {"type": "string", "enum": ["y"]}},
    },
}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"a": 1, "b": ["x"], "c": 5, "d": {}, "f": {"any": "y"}}, []),
        ({"a": 9, "c": "5m"}, []),
        ({}, [".a: required"]),
        ({"a": 0}, [".a: minimum"]),
        ({"a": 10}, [".a: maximum"]),
        ({"a": True}, [".a: not integer"]),
        ({"a": 1, "b": ["xyz"]}, [".b[0]: maxLength"]),
        ({"a": 1, "b": ["x"] * 3}, [".b: maxItems"]),
        ({"a": 1, "c": "m"}, [".c: pattern"]),
        ({"a": 1, "c": 0.5}, [".c: not integer or string"]),
        ({"a": 1, "f": {"any": "z"}}, [".f.any: enum"]),
        ({"a": 1, "g": 1}, [".g: unknown"]),
        ({"a": None}, [".a: not integer"]),
    ],
)
def test_problems(value: Any, found: list[str]) -> None:
    assert problems(SCHEMA, value) == found


def test_defaults_go_from_outside_to_inside() -> None:
    assert with_defaults(SCHEMA, {"a": 1}) == {"a": 1, "d": {"e": "x"}}
