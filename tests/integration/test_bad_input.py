"""Whatever a manifest holds, it is refused by a sentence that names the field, or taken and explained."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings

from tests.integration.explained import unexplained
from tests.integration.furniture import furnish, refusal
from tests.integration.generated import ANY, EXAMPLES, RUNNABLE, SCHEMAS, examples, how_many
from tests.integration.kube import Kube, KubeError, Object, until
from tests.integration.objects import manifest
from tests.integration.sandbox import Lab, Sandbox
from tests.unit.schema import Schema
from tests.unit.strategies import broken

KINDS = pytest.mark.parametrize("kind", sorted(SCHEMAS))
NOT_CHECKED = "some validation rules were not checked because the object was invalid"
"""The server's own remark beside the refusals by the schema."""
SCHEMA_WORDS = re.compile(
    r"in body (should|must|is|has)|should be a|Unsupported value|Required value|Too (long|many|few)|Duplicate value"
    r"|may not be (longer|more)|must (be|have|validate)|(un)?expected"
)


def rules(schema: Schema) -> set[str]:
    """The sentences of all rules."""
    own = {rule["message"] for rule in schema.get("x-kubernetes-validations", ())}
    parts = [*schema.get("properties", {}).values()]
    parts += [
        schema[part] for part in ("items", "additionalProperties") if isinstance(schema.get(part), dict)
    ]
    return own.union(*map(rules, parts))


def check(kind: str, said: Object) -> None:
    """A refusal is one that a person can act on."""
    if not said:
        return
    if said["code"] == 413:
        assert "limit is" in said["message"], said
        return
    if said["code"] == 400:
        assert re.search(r'unknown field "(spec|metadata)\.', said["message"]), said
        return
    assert said["code"] == 422, said
    told = [cause for cause in said["details"]["causes"] if NOT_CHECKED not in cause["message"]]
    assert told, said
    sentences = rules(SCHEMAS[kind])
    for cause in told:
        field, text = cause.get("field", "").lstrip("."), cause["message"]
        assert re.match(r"spec\b|metadata\.", field) or re.search(r"\bspec\.|metadata\.name", text), cause
        by_rule = any(text.endswith(sentence) for sentence in sentences)
        assert by_rule or SCHEMA_WORDS.search(text), cause


@KINDS
def test_a_spec_as_the_schema_says_is_taken_or_refused_by_a_rule(kube: Kube, kind: str) -> None:
    @settings(EXAMPLES, max_examples=how_many(60))
    @given(ANY[kind])
    def ask(spec: Any) -> None:
        check(kind, refusal(kube, manifest(kind, "made-up", spec)))

    ask()


@KINDS
def test_a_broken_spec_is_refused_by_the_name_of_its_field(kube: Kube, kind: str) -> None:
    @settings(EXAMPLES, max_examples=how_many(60))
    @given(broken(SCHEMAS[kind], RUNNABLE[kind]))
    def ask(spec: Any) -> None:
        check(kind, refusal(kube, manifest(kind, "made-up", spec)))

    ask()


def create_taken(box: Sandbox, kind: str, specs: list[Any]) -> int:
    """Create an object of each spec that the server takes; how many."""
    taken = 0
    for number, spec in enumerate(specs):
        try:
            box.create(manifest(kind, f"{kind[6:].lower()}-{number}", spec))
            taken += 1
        except KubeError as error:
            check(kind, json.loads(error.text))
    return taken


def test_what_is_taken_is_explained(lab: Lab) -> None:
    with lab.sandbox("explained") as box:
        furnish(box)
        for kind, strategy in RUNNABLE.items():
            specs = examples(strategy, 30)
            taken = create_taken(box, kind, specs)
            assert taken >= len(specs) / 4, f"{taken} of {len(specs)} {kind} were taken"

        def open_questions() -> list[str]:
            return [text for obj in box.lepton_objects() for text in unexplained(obj)]

        until(
            lambda: not open_questions(),
            lambda: "an explanation of each:\n" + "\n".join(open_questions()[:30]),
            120,
        )
        broken_off = [line for line in box.operator.log().splitlines() if "Reconcile failed" in line]
        assert not broken_off, broken_off[:3]
