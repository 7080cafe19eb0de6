"""`kubectl wait` and `kubectl get` on recorded objects: every set of conditions in the state tables once.

The objects are of copies of the three kinds, with the same versions (schema, status, columns) under another group: no
operator watches them, so what is written stays, whatever else runs in the cluster.
"""

import json
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.display import DemoError
from demo.kubectl import Kubectl
from lepton_operator.api import KIND_BY_NAME
from tests.e2e.cluster import Namespace
from tests.states.row import Row, Since, Stand
from tests.states.rows.everything import BY_KIND, EVERY
from tests.unit.builders import TYPES, dataset, model, training_job

ROOT = Path(__file__).parents[2]
GROUP = "states.example.org"
PREFIX = "Recorded"
SPECS = {"LeptonDataset": dataset(), "LeptonTrainingJob": training_job(), "LeptonModel": model()}


def first_of_each(rows: dict[str, Row], look: Callable[[Row], Hashable]) -> dict[str, Row]:
    """Of the rows of a kind that look the same, the first."""
    found: dict[Hashable, str] = {}
    for name, row in rows.items():
        found.setdefault((row.kind, look(row)), name)
    return {name: rows[name] for name in found.values()}


ROWS = first_of_each(
    {f"row-{at}": row for at, row in enumerate(EVERY) if row.since is Since.NOTHING},
    lambda row: tuple(row.conditions()),
)
"""Name of the object -> row."""
EXAMPLES = first_of_each(ROWS, lambda row: tuple(status for _, status, _ in row.conditions()))
"""`kubectl wait` looks at statuses only."""
CASES = sorted({(row.kind, one, now) for row in EXAMPLES.values() for one, now, _ in row.conditions()})
"""(kind, condition, status) that occur."""

each_kind = pytest.mark.parametrize("kind", BY_KIND)
TIMED_OUT = "timed out waiting for the condition"


def plural(kind: str) -> str:
    """Full name of the copy's resource."""
    return f"recorded{KIND_BY_NAME[kind].plural}.{GROUP}"


def copied_crd(kind: str) -> dict[str, Any]:
    """The CRD as it is installed, under names that nothing else uses."""
    crd: dict[str, Any] = yaml.safe_load((ROOT / "crds" / f"{KIND_BY_NAME[kind].plural}.yaml").read_text())
    name = plural(kind).split(".")[0]
    names = {"kind": PREFIX + kind, "listKind": f"{PREFIX}{kind}List", "plural": name, "singular": name[:-1]}
    return {
        **crd,
        "metadata": {"name": plural(kind)},
        "spec": {**crd["spec"], "group": GROUP, "names": names},
    }


def copied(name: str, row: Row, **parts: Any) -> dict[str, Any]:
    """An object of the copied kind."""
    head = {"apiVersion": f"{GROUP}/v1alpha1", "kind": PREFIX + row.kind}
    return head | {"metadata": {"name": name}, "spec": SPECS[row.kind]["spec"]} | parts


@dataclass(frozen=True)
class Recorded:
    """The objects, in a namespace of their own."""

    namespace: Namespace

    def record(self, rows: dict[str, Row]) -> None:
        """Makes the objects as they are in these rows."""
        self.namespace.apply(*(copied(name, row) for name, row in rows.items()))
        seen = {name: row for name, row in rows.items() if row.stand is not Stand.UNSEEN}
        told = [copied(name, row, status=row.recorded()["status"]) for name, row in seen.items()]
        body = json.dumps({"apiVersion": "v1", "kind": "List", "items": told})
        self.namespace.run("replace", "--subresource=status", "-f", "-", stdin=body, timeout=180)

    def wait(self, kind: str, condition: str, names: list[str], seconds: int) -> None:
        """`kubectl wait` for all of them; raises DemoError when one doesn't come."""
        objects = [f"{plural(kind)}/{name}" for name in names]
        limit = f"--timeout={seconds}s"
        self.namespace.run("wait", *objects, f"--for=condition={condition}", limit, timeout=seconds + 60)

    def printed(self, kind: str) -> dict[str, dict[str, str]]:
        """Name -> column -> cell, as `kubectl get` prints them."""
        head, *lines = self.namespace.run("get", plural(kind)).splitlines()
        starts = [(title, head.index(title)) for title in head.split()]
        ends = [*(start for _, start in starts[1:]), None]
        cells = [
            {title: line[start:end].strip() for (title, start), end in zip(starts, ends, strict=True)}
            for line in lines
        ]
        return {row["NAME"]: row for row in cells}


@pytest.fixture(scope="module")
def recorded(kubectl: Kubectl) -> Iterator[Recorded]:
    """All rows' objects with their status, as the API server keeps them."""
    crds = json.dumps({"apiVersion": "v1", "kind": "List", "items": [copied_crd(kind) for kind in BY_KIND]})
    names = [plural(kind) for kind in BY_KIND]
    kubectl.run("apply", "-f", "-", stdin=crds)
    try:
        kubectl.run("wait", "--for=condition=Established", "crd", *names, "--timeout=60s", timeout=70)
        made = Recorded(Namespace.create(kubectl, "recorded-states"))
        try:
            made.record(ROWS)
            yield made
        finally:
            made.namespace.delete()
    finally:
        kubectl.run("delete", "crd", *names, "--timeout=60s", timeout=70)


def those_with(kind: str, condition: str, status: str) -> list[str]:
    """Names of the examples that have the condition with that status."""
    return [
        name
        for name, row in EXAMPLES.items()
        if row.kind == kind and (condition, status) in [(one, now) for one, now, _ in row.conditions()]
    ]


@pytest.mark.parametrize(("kind", "condition", "status"), CASES)
def test_kubectl_wait_ends_on_every_status_of_every_condition(
    recorded: Recorded, kind: str, condition: str, status: str
) -> None:
    recorded.wait(kind, f"{condition}={status}", those_with(kind, condition, status), seconds=20)


@pytest.mark.parametrize(
    ("kind", "condition"), [(kind, one) for kind, types in TYPES.items() for one in types]
)
def test_kubectl_wait_does_not_end_on_another_status(recorded: Recorded, kind: str, condition: str) -> None:
    name = those_with(kind, condition, "True")[0]
    with pytest.raises(DemoError, match=TIMED_OUT):
        recorded.wait(kind, f"{condition}=False", [name], seconds=1)


@each_kind
def test_kubectl_wait_does_not_end_on_an_object_that_nobody_has_seen(recorded: Recorded, kind: str) -> None:
    name = next(name for name, row in ROWS.items() if row.kind == kind and row.stand is Stand.UNSEEN)
    with pytest.raises(DemoError, match=TIMED_OUT):
        recorded.wait(kind, TYPES[kind][0], [name], seconds=1)


@each_kind
def test_kubectl_wait_does_not_believe_the_conditions_of_an_older_spec(recorded: Recorded, kind: str) -> None:
    row = next(row for row in ROWS.values() if row.kind == kind and row.stand is Stand.DONE)
    change = {"startupDeadlineSeconds": 77} if kind == "LeptonModel" else {"backoffLimit": 9}
    recorded.record({"edited": row})
    recorded.wait(kind, f"{row.main}=True", ["edited"], seconds=20)
    patch = json.dumps({"spec": change})
    recorded.namespace.run("patch", plural(kind), "edited", "--type=merge", "-p", patch)
    with pytest.raises(DemoError, match=TIMED_OUT):
        recorded.wait(kind, f"{row.main}=True", ["edited"], seconds=1)


@each_kind
def test_kubectl_get_prints_the_state_and_its_reason(recorded: Recorded, kind: str) -> None:
    title = "STATUS" if kind == "LeptonTrainingJob" else "READY"
    printed = recorded.printed(kind)
    rows = {name: row.conditions() for name, row in ROWS.items() if row.kind == kind}
    wanted = {name: row[0][1:] if row else ("", "") for name, row in rows.items()}
    assert {name: (printed[name][title], printed[name]["REASON"]) for name in rows} == wanted
