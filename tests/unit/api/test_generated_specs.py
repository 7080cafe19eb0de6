"""Specs by the thousand: what the schema takes the models take, and what it refuses they refuse."""

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lepton_operator.api import KINDS
from lepton_operator.api.common import QUANTITY_PATTERN
from lepton_operator.api.kind import Kind
from tests.unit.schema import problems, root_schema, with_defaults
from tests.unit.strategies import broken, found_at, leaves, node_at, values

EXAMPLES = settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
SCHEMAS = {kind.name: root_schema(kind)["properties"]["spec"] for kind in KINDS}
WHOLE = st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(st.just(kind), values(SCHEMAS[kind.name])))
BROKEN = st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(st.just(kind), broken(SCHEMAS[kind.name])))


def reads(kind: Kind, spec: Any) -> str:
    """Empty when the model reads the spec."""
    try:
        kind.spec.model_validate(spec)
    except ValidationError as error:
        return str(error)
    return ""


@EXAMPLES
@given(WHOLE)
def test_what_the_schema_takes_can_be_read(case: tuple[Kind, Any]) -> None:
    kind, given_spec = case
    schema = SCHEMAS[kind.name]
    spec = with_defaults(schema, given_spec)
    assert problems(schema, spec) == []
    assume(amounts_are_amounts(spec))
    assert reads(kind, spec) == ""


@EXAMPLES
@given(BROKEN)
def test_what_the_schema_refuses_can_not_be_read(case: tuple[Kind, Any]) -> None:
    """Values of another type are left to the schema: the models take "5" and true for numbers, null for nothing."""
    kind, spec = case
    schema = SCHEMAS[kind.name]
    found = problems(schema, spec)
    assume(not any(": not " in problem for problem in found))
    assume(found or amounts_are_amounts(spec))
    assert bool(reads(kind, spec)) == bool(found), (found, reads(kind, spec))


def amounts_are_amounts(spec: Any) -> bool:
    """The rule for amounts is in CEL, which only the server computes."""
    held = (found_at(spec, ("resources", part)) for part in ("requests", "limits"))
    amounts = [amount for maps in held for one in maps for amount in one.values()]
    return all(re.search(QUANTITY_PATTERN, str(amount)) for amount in amounts)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_fields_are_found_in_the_schema(kind: Kind) -> None:
    schema = SCHEMAS[kind.name]
    found = list(leaves(schema))
    assert ("startupDeadlineSeconds",) in found
    assert ("podTemplate", "env", "[]", "valueFrom", "secretKeyRef", "key") in found
    assert all(node_at(schema, path) for path in found)
