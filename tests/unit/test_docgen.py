"""The reference of a kind: every field, its limits in words, every refusal."""

import pytest

from lepton_operator.api import KINDS, MODEL, TRAINING_JOB
from lepton_operator.api.kind import Kind
from lepton_operator.docgen import Schema, columns_table, fields_of, fields_table, limits, rules_table, table
from tests.unit.schema import root_schema

kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def descriptions(schema: Schema) -> list[str]:
    """Of all fields below a schema."""
    found = []
    for child in schema.get("properties", {}).values():
        found += [child["description"], *descriptions(child.get("items", child))]
    return found


@kinds
@pytest.mark.parametrize("part", ["spec", "status"])
def test_every_field_is_told_with_its_description(kind: Kind, part: str) -> None:
    wanted = descriptions(root_schema(kind)["properties"][part])
    lines = fields_table(kind, part).splitlines()[2:]
    assert len(lines) == len(wanted)
    for line, text in zip(lines, wanted, strict=True):
        assert " ".join(text.split()).replace("|", "&#124;") in line


def test_a_field_of_a_list_is_told() -> None:
    assert "status.conditions[].reason" in [field.path for field in fields_of(MODEL, "status")]


def test_what_must_be_written_and_what_is_taken_else() -> None:
    told = fields_table(TRAINING_JOB, "spec")
    assert "| `spec.dataset.name` | string | required | 1 to 40 characters |" in told
    assert "| `spec.workers` | integer | `1` | 1 to 64 |" in told


@kinds
def test_every_refusal_is_told_with_its_sentence(kind: Kind) -> None:
    told = rules_table(kind)
    assert "metadata.name must start with a letter" in told
    for record in (kind.spec, *(field.annotation for field in kind.spec.model_fields.values())):
        for _, sentence in getattr(record, "cel_rules", ()):
            assert sentence.replace("|", "&#124;") in told


def test_the_fixed_spec_of_a_training_job_is_told() -> None:
    assert "| `spec` | a training job is fixed once created" in rules_table(TRAINING_JOB)


@kinds
def test_every_column_is_told(kind: Kind) -> None:
    for column in kind.columns:
        assert f"| {column.name.upper()} |" in columns_table(kind)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"minimum": 1, "maximum": 64}, "1 to 64"),
        ({"minimum": 0}, "at least 0"),
        ({"minimum": 0, "exclusiveMinimum": True}, "above 0"),
        ({"minimum": 0, "exclusiveMinimum": True, "maximum": 1}, "above 0, at most 1"),
        ({"minimum": 0, "maximum": 1, "exclusiveMaximum": True}, "at least 0, below 1"),
        ({"maxLength": 253}, "at most 253 characters"),
        ({"maxItems": 8, "items": {"minimum": 1}}, "at most 8 items; each at least 1"),
        ({"maxProperties": 16}, "at most 16 entries"),
        ({"pattern": "^a$"}, "`^a$`"),
        ({}, ""),
    ],
)
def test_limits_in_words(schema: Schema, text: str) -> None:
    assert limits(schema) == text


def test_bars_do_not_break_a_table() -> None:
    assert table(("a",), [("x | y",)]) == "| a |\n| --- |\n| x &#124; y |\n"
