"""The generated CRDs: small, described, consistent, up to date."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lepton_operator.api import KINDS, TRAINING_JOB
from lepton_operator.api.kind import Kind
from lepton_operator.api.training_job import MUTABLE_FIELDS
from lepton_operator.crdgen import MAX_BYTES, crd, main, render
from tests.unit.builders import dataset, decide, model, observe, ready_dataset, succeeded_job, training_job
from tests.unit.schema import problems, root_schema, with_defaults

REPOSITORY = Path(__file__).parents[2]
Schema = dict[str, Any]

kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """All schemas of a schema."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


def rules(kind: Kind) -> list[tuple[str, Schema]]:
    return [
        (path, rule)
        for path, node in nodes(root_schema(kind))
        for rule in node.get("x-kubernetes-validations", ())
    ]


@kinds
def test_a_client_side_apply_takes_it(kind: Kind) -> None:
    assert len(json.dumps(crd(kind), separators=(",", ":"))) < MAX_BYTES


@kinds
def test_the_files_in_the_repository_are_up_to_date(kind: Kind) -> None:
    assert (REPOSITORY / "crds" / f"{kind.plural}.yaml").read_text() == render(kind)


@kinds
def test_every_field_has_a_description(kind: Kind) -> None:
    for path, node in nodes(root_schema(kind)):
        bare = path in ("", ".metadata") or path.endswith(("[]", "{}"))
        assert bare or len(node.get("description", "")) > 2, path
        assert bare or node["description"].endswith((".", ")")), path


@kinds
def test_schemas_are_structural(kind: Kind) -> None:
    for path, node in nodes(root_schema(kind)):
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path
        assert not {"$ref", "$defs", "title", "oneOf", "allOf", "const", "nullable"} & set(node), path
        if "anyOf" in node:
            assert node["x-kubernetes-int-or-string"] is True, path
        if node.get("type") == "object" and path not in ("", ".metadata"):
            forms = {"properties", "additionalProperties", "x-kubernetes-preserve-unknown-fields"}
            assert len(forms & set(node)) == 1, path
        assert node.get("additionalProperties") is not False, path


@kinds
def test_only_affinity_is_open(kind: Kind) -> None:
    open_nodes = [
        path for path, node in nodes(root_schema(kind)) if "x-kubernetes-preserve-unknown-fields" in node
    ]
    assert open_nodes == [".spec.podTemplate.affinity"]


@kinds
def test_there_is_no_null(kind: Kind) -> None:
    assert "null" not in json.dumps(crd(kind))


@kinds
def test_defaults_are_valid_and_whole(kind: Kind) -> None:
    """The API server checks defaults too, and writes them as they are: nested defaults must be in them."""
    for path, node in nodes(root_schema(kind)):
        if "default" in node:
            assert problems(node, node["default"]) == [], path
            if path != ".status":
                assert with_defaults(node, node["default"]) == node["default"], path


@kinds
def test_an_object_is_born_unseen(kind: Kind) -> None:
    assert root_schema(kind)["properties"]["status"]["default"] == {"observedGeneration": -1}


@kinds
def test_rules_have_sentences_that_help(kind: Kind) -> None:
    for path, rule in rules(kind):
        assert set(rule) == {"rule", "message"}, path
        assert len(rule["message"].split()) >= 5, path
        assert not rule["message"].endswith("."), path
        assert "\n" not in rule["message"], "the API server refuses line breaks"


@kinds
def test_rules_name_fields_that_exist(kind: Kind) -> None:
    for path, node in nodes(root_schema(kind)):
        for rule in node.get("x-kubernetes-validations", ()):
            for name in re.findall(r"(?:self|oldSelf)\.([a-zA-Z0-9]+)\b(?!\()", rule["rule"]):
                assert name in node["properties"], (path, name)


@kinds
def test_rules_do_not_read_fields_that_may_be_missing(kind: Kind) -> None:
    """An expression over a missing field is an error, not false: `has()` first, or always there."""
    for path, node in nodes(root_schema(kind)):
        for rule in node.get("x-kubernetes-validations", ()):
            for name in re.findall(r"(?<!has\()self\.([a-zA-Z0-9]+)\b(?!\()", rule["rule"]):
                there = name in node.get("required", ()) or "default" in node["properties"][name]
                assert there or f"has(self.{name})" in rule["rule"] or path == "", (path, name)


def test_a_training_job_is_fixed_but_for_its_limits() -> None:
    found = next(one for _, one in rules(TRAINING_JOB) if "oldSelf" in one["rule"])
    fixed = set(re.findall(r"oldSelf\.([a-zA-Z]+)", found["rule"]))
    spec = root_schema(TRAINING_JOB)["properties"]["spec"]
    free = {TRAINING_JOB.spec.model_fields[name].alias for name in MUTABLE_FIELDS}
    assert fixed | free == set(spec["properties"])
    assert not fixed & free
    for name in fixed:
        there = name in spec["required"] or "default" in spec["properties"][name]
        assert there or f"has(self.{name}) == has(oldSelf.{name})" in found["rule"], name
    for name in free:
        assert str(name) in found["message"]
    assert "new name" in found["message"]


def test_kinds_have_a_name_rule() -> None:
    for kind in KINDS:
        (rule,) = root_schema(kind)["x-kubernetes-validations"]
        pattern = re.search(r"matches\('(.*?)'\)", rule["rule"])
        assert pattern
        for name, good in [
            ("a", True),
            ("a-1", True),
            ("1a", False),
            ("a-", False),
            ("a.b", False),
            ("A", False),
        ]:
            assert bool(re.search(pattern[1], name)) is good
        assert "40" in rule["message"]


STATUSES = {
    "LeptonDataset": decide(observe(dataset())).status,
    "LeptonTrainingJob": decide(observe(training_job(), dataset=ready_dataset())).status,
    "LeptonModel": decide(observe(model(), training_job=succeeded_job())).status,
}


@kinds
def test_what_the_operator_writes_is_in_the_schema(kind: Kind) -> None:
    status = root_schema(kind)["properties"]["status"]
    assert problems(status, STATUSES[kind.name]) == []


@kinds
def test_conditions_are_a_list_by_type(kind: Kind) -> None:
    conditions = root_schema(kind)["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


@kinds
def test_columns_show_fields_that_exist_with_their_type(kind: Kind) -> None:
    for column in crd(kind)["spec"]["versions"][0]["additionalPrinterColumns"]:
        path = re.sub(r"\[\?\(.*?\)\]", "[]", column["jsonPath"])
        if path == ".metadata.creationTimestamp":
            continue
        found = dict(nodes(root_schema(kind)))
        assert path in found, column
        assert found[path]["type"] == column["type"], column
        assert column["description"]


@kinds
def test_names(kind: Kind) -> None:
    definition = crd(kind)
    names = definition["spec"]["names"]
    assert definition["metadata"]["name"] == f"{names['plural']}.lepton.ai"
    assert names["categories"] == ["lepton"]
    assert names["shortNames"] == [
        {"LeptonDataset": "lds", "LeptonTrainingJob": "ltj", "LeptonModel": "lm"}[kind.name]
    ]


def test_only_the_model_scales() -> None:
    scales = {kind.name: crd(kind)["spec"]["versions"][0]["subresources"].get("scale") for kind in KINDS}
    assert scales.pop("LeptonModel") == {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    assert set(scales.values()) == {None}


def test_the_check_fails_on_a_difference_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 0
    assert main([str(tmp_path), "--check"]) == 0
    changed = tmp_path / "leptonmodels.yaml"
    changed.write_text("other")
    assert main([str(tmp_path), "--check"]) == 1
    assert "leptonmodels.yaml" in capsys.readouterr().err
    assert changed.read_text() == "other"
    assert main([str(tmp_path)]) == 0
    assert yaml.safe_load(changed.read_text())["kind"] == "CustomResourceDefinition"
