"""Specs: examples, defaults of schema and models, what is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from lepton_operator.api import KIND_BY_NAME, KINDS
from lepton_operator.api.common import Resources
from lepton_operator.api.kind import Kind
from lepton_workloads.contract.base import Record
from tests.unit.schema import problems, root_schema, with_defaults

REPOSITORY = Path(__file__).parents[3]
EXAMPLES = [
    pytest.param(manifest, id=f"{path.parent.name}/{path.name}")
    for path in sorted((REPOSITORY / "examples").glob("**/*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text())
    if manifest and manifest.get("kind") in KIND_BY_NAME
]
LEAST = {
    "LeptonDataset": {"source": {"builtin": "digits"}},
    "LeptonTrainingJob": {"dataset": {"name": "digits"}},
    "LeptonModel": {"source": {"trainingJob": {"name": "cnn"}}},
}
SECRET_KEY = {"name": "s", "key": "k"}
MORE = [
    ("LeptonDataset", {"source": {"pvc": {"claimName": "photos"}}, "image": {"channels": 1}}),
    ("LeptonDataset", {"source": {"pvc": {"claimName": "photos", "path": "a/b"}}, "split": {"seed": 1}}),
    ("LeptonTrainingJob", {"dataset": {"name": "a"}, "network": {"dense": []}, "activeDeadlineSeconds": 60}),
    ("LeptonTrainingJob", {"dataset": {"name": "a"}, "resources": {"limits": {"cpu": 2, "memory": "1Gi"}}}),
    (
        "LeptonTrainingJob",
        {
            "dataset": {"name": "a"},
            "podTemplate": {
                "labels": {"team": "vision"},
                "affinity": {"nodeAffinity": {"anything": [1, {"goes": None}]}},
                "tolerations": [{"key": "gpu", "operator": "Exists"}],
                "env": [{"name": "A", "value": ""}, {"name": "B", "valueFrom": {"secretKeyRef": SECRET_KEY}}],
                "envFrom": [{"configMapRef": {"name": "c"}, "prefix": "P_"}],
                "volumes": [
                    {"name": "shm", "mountPath": "/dev/shm", "emptyDir": {"medium": "Memory"}},
                    {"name": "c", "mountPath": "/c", "persistentVolumeClaim": {"claimName": "photos"}},
                    {
                        "name": "s",
                        "mountPath": "/s",
                        "subPath": "a",
                        "secret": {"secretName": "s", "items": [{"key": "k", "path": "p"}]},
                    },
                ],
            },
        },
    ),
    ("LeptonModel", {"source": {"uri": "pvc://a/b"}, "autoscaling": {"maxReplicas": 3}}),
    ("LeptonModel", {"source": {"uri": "https://example.org/a.tar.gz", "sha256": "a" * 64}, "replicas": 0}),
]


def spec_schema(kind: Kind) -> dict[str, Any]:
    found: dict[str, Any] = root_schema(kind)["properties"]["spec"]
    return found


def test_there_are_examples_of_all_kinds() -> None:
    assert {param.values[0]["kind"] for param in EXAMPLES} == set(KIND_BY_NAME)


@pytest.mark.parametrize("manifest", EXAMPLES)
def test_examples_are_valid_and_come_back(manifest: dict[str, Any]) -> None:
    kind = KIND_BY_NAME[manifest["kind"]]
    assert manifest["apiVersion"] == kind.api_version
    check(kind, manifest["spec"])


@pytest.mark.parametrize(("name", "spec"), [*LEAST.items(), *MORE])
def test_specs_come_back(name: str, spec: dict[str, Any]) -> None:
    check(KIND_BY_NAME[name], spec)


def check(kind: Kind, spec: dict[str, Any]) -> None:
    """The schema takes it, and its defaults are those of the model."""
    assert problems(spec_schema(kind), spec) == []
    stored = with_defaults(spec_schema(kind), spec)
    record = kind.spec.model_validate(spec)
    assert kind.spec.model_validate(stored) == record
    assert kind.spec.model_validate(record.to_json_dict()) == record
    assert {name: value for name, value in stored.items() if name != "resources"} == {
        name: value for name, value in record.to_json_dict().items() if name != "resources"
    }


REFUSED = [
    ("LeptonDataset", {}),
    ("LeptonDataset", {"source": {"builtin": "cats"}}),
    ("LeptonDataset", {"source": {"builtin": "digits"}, "unknown": 1}),
    ("LeptonDataset", {"source": {"builtin": "digits"}, "image": {"channels": 2}}),
    ("LeptonDataset", {"source": {"builtin": "digits"}, "split": {"train": 0}}),
    ("LeptonDataset", {"source": {"builtin": "digits"}, "parallelism": 65}),
    ("LeptonDataset", {"source": {"pvc": {"claimName": ""}}}),
    ("LeptonTrainingJob", {"dataset": {}}),
    ("LeptonTrainingJob", {"dataset": {"name": "a"}, "workers": 0}),
    ("LeptonTrainingJob", {"dataset": {"name": "a"}, "training": {"learningRate": 0}}),
    ("LeptonTrainingJob", {"dataset": {"name": "a"}, "network": {"convolutions": []}}),
    ("LeptonTrainingJob", {"dataset": {"name": "a"}, "network": {"dropout": 1}}),
    ("LeptonModel", {"source": {"trainingJob": {"name": "a"}}, "replicas": -1}),
    ("LeptonModel", {"source": {"trainingJob": {"name": "a"}}, "replicas": 1001}),
    ("LeptonModel", {"source": {"trainingJob": {"name": "a"}}, "startupDeadlineSeconds": 0}),
    ("LeptonModel", {"source": {"trainingJob": {"name": "a"}}, "autoscaling": {}}),
    ("LeptonModel", {"source": {"uri": "pvc://a"}, "podTemplate": {"serviceAccountName": "admin"}}),
    ("LeptonModel", {"source": {"uri": "pvc://a"}, "podTemplate": {"labels": {"a": "b" * 64}}}),
    ("LeptonModel", {"source": {"uri": "pvc://a"}, "podTemplate": {"env": [{"value": "1"}]}}),
    ("LeptonModel", {"source": {"uri": "pvc://a"}, "podTemplate": {"tolerations": [{"effect": "No"}]}}),
    ("LeptonModel", {"source": {"uri": "pvc://a"}, "podTemplate": {"volumes": [{"name": "a"}]}}),
    (
        "LeptonModel",
        {
            "source": {"uri": "pvc://a"},
            "podTemplate": {"volumes": [{"name": "a", "mountPath": "/a", "hostPath": {"path": "/"}}]},
        },
    ),
]


@pytest.mark.parametrize(("name", "spec"), REFUSED)
def test_schema_and_model_refuse_the_same(name: str, spec: dict[str, Any]) -> None:
    kind = KIND_BY_NAME[name]
    with pytest.raises(ValidationError):
        kind.spec.model_validate(spec)
    assert problems(spec_schema(kind), spec)


@pytest.mark.parametrize("quantity", ["1", "500m", "0.5", "2Gi", "1.5Gi", "100k", 2, 0])
def test_quantities_that_are_taken(quantity: str | int) -> None:
    assert Resources.model_validate({"limits": {"cpu": quantity}}).limits == {"cpu": str(quantity)}


@pytest.mark.parametrize("quantity", ["", "-1", "1.", ".5", "1GB", "1 Gi", "1e3", "m", "0x1", "１", "1\n"])
def test_quantities_that_are_refused(quantity: str) -> None:
    with pytest.raises(ValidationError):
        Resources.model_validate({"limits": {"cpu": quantity}})


def test_records_of_one_name_are_one_record() -> None:
    """The generator knows records by their class name."""
    seen: dict[str, type[Record]] = {}
    pending: list[Any] = [record for kind in KINDS for record in (kind.spec, kind.status)]
    while pending:
        item = pending.pop()
        if isinstance(item, type) and issubclass(item, Record):
            if seen.setdefault(item.__name__, item) is item:
                pending += [field.annotation for field in item.model_fields.values() if item not in (None,)]
            else:
                raise AssertionError(f"two records are called {item.__name__}")
        else:
            pending += list(getattr(item, "__args__", ()))
    assert "Condition" in seen


def test_specs_are_frozen_and_refuse_what_is_not_a_number() -> None:
    kind = KIND_BY_NAME["LeptonTrainingJob"]
    spec = kind.spec.model_validate(LEAST["LeptonTrainingJob"])
    with pytest.raises(ValidationError):
        spec.workers = 3  # type: ignore[attr-defined]
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValidationError):
            kind.spec.model_validate({"dataset": {"name": "a"}, "training": {"learningRate": bad}})
