"""Models -> CRDs: `python -m lepton_operator.crdgen [--check] [FOLDER]` writes one YAML file a kind.

Pydantic's JSON schema becomes a structural schema: references are inlined, `null` alternatives of
optional fields go (an absent field says the same), exclusive bounds take their OpenAPI v3.0 form,
and the `cel_rules` of each record become `x-kubernetes-validations`.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml

from lepton_operator.api import KINDS, TRAINING_JOB, VERSION
from lepton_operator.api.kind import GROUP, MAX_NAME, Kind
from lepton_operator.api.training_job import MUTABLE_FIELDS
from lepton_workloads.contract.base import Record

Schema = dict[str, Any]

MAX_BYTES = 64 * 1024
"""Of compact JSON: so a client-side apply keeps it in an annotation; annotations end at 256 KiB, budgets at 64."""

KEPT = frozenset(
    (
        *("type", "format", "description", "default", "enum", "required", "anyOf", "pattern"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
        *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
    )
)

NAME_RULE = {
    "rule": "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= "
    f"{MAX_NAME}",
    "message": "metadata.name must start with a letter, hold only a-z, 0-9 and '-', end with a letter or "
    "digit, "
    f"and have at most {MAX_NAME} characters",
}


def crd(kind: Kind) -> Schema:
    """The CustomResourceDefinition of a kind."""
    subresources: Schema = {"status": {}}
    if kind.scalable:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _root_schema(kind)},
        "subresources": subresources,
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{GROUP}",
            "labels": {"app.kubernetes.io/name": "lepton", "app.kubernetes.io/part-of": "lepton"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": [kind.short],
                "categories": ["lepton"],
            },
            "versions": [version],
        },
    }


def _root_schema(kind: Kind) -> Schema:
    spec = _record_schema(kind.spec, "The wanted state.")
    if kind is TRAINING_JOB:
        rules = spec.get("x-kubernetes-validations", [])
        spec["x-kubernetes-validations"] = [*rules, _immutable_rule(kind.spec)]
    status = _record_schema(kind.status, "The state as the operator sees it.")
    status["default"] = {"observedGeneration": -1}
    status["properties"]["observedGeneration"].pop("default", None)
    return {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": f"{kind.name}."},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
        "x-kubernetes-validations": [NAME_RULE],
    }


def _immutable_rule(spec: type[Record]) -> Schema:
    """One transition rule over all fields that are fixed once the object exists."""
    terms = []
    for name, field in spec.model_fields.items():
        if name in MUTABLE_FIELDS:
            continue
        now, before = f"self.{field.alias}", f"oldSelf.{field.alias}"
        if field.is_required() or field.default is not None:
            terms.append(f"{now} == {before}")
        else:
            terms.append(f"has({now}) == has({before}) && (!has({now}) || {now} == {before})")
    free = sorted(str(spec.model_fields[name].alias) for name in MUTABLE_FIELDS)
    return {
        "rule": " && ".join(terms),
        "message": f"a training job is fixed once created (except {', '.join(free)}): create a job with a new "
        "name",
    }


def _record_schema(record: type[Record], description: str) -> Schema:
    raw = record.model_json_schema(by_alias=True, mode="validation")
    rules = _rules_by_title(record)
    schema = _structural(raw, raw.get("$defs", {}), rules, record.__name__)
    schema["description"] = description
    return schema


def _rules_by_title(record: type[Record]) -> dict[str, list[Schema]]:
    """CEL rules of a record and of all records below it, by class name."""
    found: dict[str, list[Schema]] = {}
    pending: list[Any] = [record]
    while pending:
        item = pending.pop()
        if isinstance(item, type) and issubclass(item, Record):
            if item.__name__ in found:
                continue
            found[item.__name__] = [{"rule": rule, "message": message} for rule, message in item.cel_rules]
            pending += [field.annotation for field in item.model_fields.values()]
        else:
            pending += list(getattr(item, "__args__", ()))
    return found


def _structural(node: Schema, defs: Schema, rules: dict[str, list[Schema]], path: str) -> Schema:
    """One node as a structural schema; siblings of a reference (description, default) win over it."""
    node = _without_null(node)
    if "$ref" in node:
        target = node["$ref"].rsplit("/", 1)[-1]
        inner = _structural(defs[target], defs, rules, path)
        return inner | {key: value for key, value in node.items() if key in KEPT}
    if node.get("x-kubernetes-int-or-string"):
        return {key: value for key, value in node.items() if key != "title"}
    out: Schema = {
        key: value for key, value in node.items() if key in KEPT or key.startswith("x-kubernetes-")
    }
    if "const" in node:
        out |= {"type": "string", "enum": [node["const"]]}
    for side in ("Minimum", "Maximum"):
        if f"exclusive{side}" in out:
            out[side.lower()] = out[f"exclusive{side}"]
            out[f"exclusive{side}"] = True
    if "items" in node:
        out["items"] = _structural(node["items"], defs, rules, f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        out["additionalProperties"] = _structural(node["additionalProperties"], defs, rules, f"{path}{{}}")
    if "properties" in node:
        out["properties"] = {
            name: _structural(child, defs, rules, f"{path}.{name}")
            for name, child in node["properties"].items()
        }
        for name, child in out["properties"].items():
            if not child.get("description"):
                raise ValueError(f"{path}.{name} has no description")
        if own := rules.get(node.get("title", "")):
            out["x-kubernetes-validations"] = own
    return out


def _without_null(node: Schema) -> Schema:
    """An optional field's `anyOf: [X, null]` is X; a default of null is no default."""
    branches = [branch for branch in node.get("anyOf", []) if branch.get("type") != "null"]
    if "anyOf" in node and len(branches) == 1 and not node.get("x-kubernetes-int-or-string"):
        rest = {key: value for key, value in node.items() if key != "anyOf"}
        node = branches[0] | rest
    if "default" in node:
        default = _drop_null(node["default"])
        node = {key: value for key, value in node.items() if key != "default"}
        if default is not None:
            node["default"] = default
    return node


def _drop_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _drop_null(item) for key, item in value.items() if item is not None}
    return value


def _column(column: Any) -> Schema:
    out = {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.json_path,
        "description": column.description,
    }
    if column.priority:
        out["priority"] = column.priority
    return out


class _Dumper(yaml.SafeDumper):
    """Writes equal parts out each time: a person reads them, and searches for them."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def render(kind: Kind) -> str:
    """The YAML file of a kind's CRD."""
    manifest = crd(kind)
    size = len(json.dumps(manifest, separators=(",", ":")))
    if size >= MAX_BYTES:
        raise ValueError(f"CRD of {kind.name} has {size} bytes; at most {MAX_BYTES} are allowed")
    head = "# Generated by `make crds` from operator/lepton_operator/api; do not edit.\n"
    return head + yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, width=110)


def main(arguments: list[str] | None = None) -> int:
    """Writes the CRDs, or with --check says which differ (exit code 1)."""
    parser = argparse.ArgumentParser(prog="lepton_operator.crdgen", description=main.__doc__)
    parser.add_argument("folder", nargs="?", default="crds", type=Path)
    parser.add_argument("--check", action="store_true", help="change nothing, fail on a difference")
    options = parser.parse_args(arguments)
    stale = []
    for kind in KINDS:
        path = options.folder / f"{kind.plural}.yaml"
        text = render(kind)
        if options.check and (not path.exists() or path.read_text() != text):
            stale.append(str(path))
        elif not options.check:
            options.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if stale:
        print(f"Not up to date: {', '.join(stale)}; run `make crds`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
