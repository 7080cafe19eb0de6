"""Each fault, injected with real pods: named in condition, column and one Event, and gone once it is cured.

All faulty objects are applied at once and looked at side by side, then each is cured.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

from tests.e2e import sabotage
from tests.e2e.cluster import Namespace, Object, dataset, model, training_job, until
from tests.e2e.sabotage import LAST_WORDS, sabotaged

SMALL = {"requests": {"cpu": "10m", "memory": "64Mi"}}
TIGHT = "10Mi"
"""Too little for a Python program."""


@dataclass(frozen=True)
class Injected:
    """An object whose spec, or whose surroundings, hold a fault; `cured_by` is applied besides a plain spec."""

    short: str
    name: str
    spec: dict[str, Any]
    reason: str
    texts: tuple[str, ...]
    cured_by: tuple[Object, ...] = ()
    stalled: bool = False

    @property
    def main(self) -> str:
        """Type of the main condition."""
        return "Succeeded" if self.short == "ltj" else "Ready"

    def object(self, **spec: Any) -> Object:
        """The object, with the fault or with another spec."""
        make = {"lds": dataset, "ltj": training_job, "lm": model}[self.short]
        return make(self.name, **({"resources": SMALL} | (spec or self.spec)))

    def cure(self) -> tuple[Object, ...]:
        """What to apply so that it works."""
        return self.cured_by or (self.object(resources=SMALL),)


def of_key(kind: str, name: str, key: str) -> dict[str, Any]:
    """A podTemplate that takes a variable from a Secret or ConfigMap."""
    reference = {kind: {"name": name, "key": key}}
    return {"env": [{"name": "TOKEN", "valueFrom": reference}]}


def core(kind: str, name: str, **parts: Any) -> Object:
    """An object of Kubernetes' core."""
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **parts}


MODELS = (
    Injected("lm", "selector", {"podTemplate": {"nodeSelector": {"disk": "none"}}},
             "Unschedulable", ("no node takes pod selector-", "spec.podTemplate.nodeSelector")),
    Injected("lm", "gpu", {"resources": {"limits": {"nvidia.com/gpu": "1"}}},
             "Unschedulable", ("Insufficient nvidia.com/gpu", "device plugin")),
    Injected("lm", "secret", {"podTemplate": of_key("secretKeyRef", "keys", "token"), "startupDeadlineSeconds": 5},
             "ContainerConfigError", ("container fetch of pod secret-", "create Secret keys in this namespace"),
             (core("Secret", "keys", stringData={"token": "x"}),), stalled=True),
    Injected("lm", "key", {"podTemplate": of_key("configMapKeyRef", "settings", "depth")},
             "ContainerConfigError", ("add key depth to ConfigMap settings",),
             (core("ConfigMap", "settings", data={"depth": "3"}),)),
    Injected("lm", "priority", {"podTemplate": {"priorityClassName": "nobody"}},
             "AdmissionDenied", ("no PriorityClass with name nobody", "spec.podTemplate.priorityClassName")),
    Injected("lm", "crash", {"podTemplate": sabotaged("serve:exit 1")},
             "CrashLoop", ("container server of pod crash-", "exit code 1", "restarted", LAST_WORDS)),
    Injected("lm", "killed", {"podTemplate": sabotaged("serve:exit 137")},
             "CrashLoop", ("container server of pod killed-", "exit code 137 (SIGKILL)", LAST_WORDS)),
    Injected("lm", "stopped", {"podTemplate": sabotaged("fetch:exit 143")},
             "CrashLoop", ("container fetch of pod stopped-", "exit code 143 (SIGTERM)", LAST_WORDS)),
    Injected("lm", "silent", {"podTemplate": sabotaged("serve:hang")},
             "ProbeFailing", ("container server of pod silent-", "startup probe (GET /healthz)", "kubectl logs")),
    Injected("lm", "memory", {"resources": {"limits": {"memory": TIGHT}}},
             "OutOfMemory", ("container fetch of pod memory-", f"limit of {TIGHT}", "spec.resources.limits.memory")),
)  # fmt: skip
DATASETS = (
    Injected("lds", "tight", {"resources": {"limits": {"memory": TIGHT}}, "backoffLimit": 0},
             "OutOfMemory", ("container prepare of pod tight-", f"limit of {TIGHT}"), stalled=True),
    Injected("lds", "unseen", {"podTemplate": {"schedulerName": "nobody"}},
             "Unschedulable", ("scheduler nobody has not looked at it",)),
)  # fmt: skip
TRAININGS = (
    Injected("ltj", "ended", {"podTemplate": sabotaged("train:exit 143"), "backoffLimit": 0},
             "BackoffLimitExceeded", ("container train of pod ended-", "exit code 143 (SIGTERM)", LAST_WORDS,
             "allowed: 0 (backoffLimit)"), stalled=True),
    Injected("ltj", "small", {"resources": {"limits": {"memory": "100Mi"}}, "backoffLimit": 0},
             "OutOfMemory", ("container train of pod small-", "limit of 100Mi"), stalled=True),
)  # fmt: skip
ALL = (*MODELS, *DATASETS, *TRAININGS)
CURABLE = (*MODELS, *DATASETS)


FROZEN = Injected("lm", "frozen", {"podTemplate": sabotaged("serve:freeze")}, "ProbeFailing", ())
"""Ready at first, then deaf, then killed by the kubelet."""


def names(one: Injected) -> str:
    return f"{one.short}-{one.name}"


@pytest.fixture(scope="module")
def broken(shared: Namespace, images: dict[str, str]) -> Namespace:
    """A namespace with a version, the sabotage and all faulty objects."""
    shared.apply(dataset(), training_job())
    shared.apply(core("ConfigMap", "settings", data={}))
    shared.wait("ltj/cnn", "Succeeded", 300)
    sabotage.prepare(shared, images)
    shared.apply(*(one.object() for one in (*ALL, FROZEN)))
    return shared


@pytest.mark.parametrize("one", ALL, ids=names)
def test_a_fault_is_named_with_what_to_do(broken: Namespace, one: Injected) -> None:
    row = broken.wait_reason(one.short, one.name, one.reason, one.main, deadline=120)
    for text in one.texts:
        assert text in row["message"]
    shown = column(broken, one, "REASON")
    assert shown == one.reason
    if one.stalled:
        broken.wait(f"{one.short}/{one.name}", "Stalled", 60)
    else:
        broken.wait(f"{one.short}/{one.name}", "Stalled=False", 1)
        broken.wait(f"{one.short}/{one.name}", "Reconciling", 1)


@pytest.mark.parametrize("one", CURABLE, ids=names)
def test_a_cured_fault_is_gone_and_was_told_in_one_event(broken: Namespace, one: Injected) -> None:
    broken.wait_reason(one.short, one.name, one.reason, one.main, deadline=120)
    uid = broken.get(one.short, one.name)["metadata"]["uid"]
    broken.apply(*one.cure())
    broken.wait(f"{one.short}/{one.name}", "Ready", 180)
    broken.wait(f"{one.short}/{one.name}", "Stalled=False", 1)
    broken.wait(f"{one.short}/{one.name}", "Reconciling=False", 1)
    assert column(broken, one, "REASON") == {"lm": "Serving", "lds": "Prepared"}[one.short]
    assert broken.get(one.short, one.name)["metadata"]["uid"] == uid
    told = until(lambda: ended_well(events(broken, one)), "the Event of the cure")
    fault = [event for event in told if event["reason"] == one.reason]
    # The second one says that nothing goes on by itself any more.
    assert len(fault) == (2 if one.stalled else 1), [event["reason"] for event in told]
    assert {event["type"] for event in fault} == {"Warning"}
    assert {event["count"] for event in told} == {1}
    said = [(event["reason"], event["message"]) for event in told]
    assert all(before != after for before, after in pairwise(said))


def test_a_server_that_freezes_is_told_by_its_readiness_and_its_end_by_its_liveness(
    broken: Namespace,
) -> None:
    def message() -> str:
        row = broken.condition("lm", "frozen", "Ready")
        return str(row["message"]) if row["reason"] == "ProbeFailing" else ""

    until(lambda: "its liveness probe (GET /healthz) failed" in message(), "the kill by the kubelet", 180)
    assert "exit code 137 (SIGKILL)" in message()
    told = [event for event in events(broken, FROZEN) if event["reason"] == "ProbeFailing"]
    assert "readiness probe (GET /readyz) fails" in told[0]["message"]
    broken.apply(*FROZEN.cure())
    broken.wait("lm/frozen", "Ready", 120)


def test_a_training_that_ended_goes_on_when_its_limit_is_raised(
    broken: Namespace, images: dict[str, str]
) -> None:
    broken.wait_reason("ltj", "ended", "BackoffLimitExceeded", "Succeeded", deadline=120)
    sabotage.remove(broken, images)
    broken.run("patch", "ltj", "ended", "--type=merge", "-p", '{"spec": {"backoffLimit": 1}}')
    broken.wait("ltj/ended", "Succeeded", 240)
    status = broken.get("ltj", "ended")["status"]
    assert (status["failures"], status["attempt"]) == (1, 2)


def column(namespace: Namespace, one: Injected, head: str) -> str:
    """What `kubectl get` prints in a column."""
    lines = namespace.run("get", one.short, one.name).splitlines()
    heads, cells = lines[0].split(), lines[1].split()
    at = lines[0].index(head)
    return lines[1][at:].split()[0] if len(cells) != len(heads) else cells[heads.index(head)]


def ended_well(told: list[Object]) -> list[Object]:
    """The Events if the last one is good news: it comes a moment after the condition."""
    return told if told and told[-1]["type"] == "Normal" else []


def events(namespace: Namespace, one: Injected) -> list[Object]:
    """Lepton's Events about an object, oldest first."""
    uid = namespace.get(one.short, one.name)["metadata"]["uid"]
    found = [event for event in namespace.list("events") if event["involvedObject"].get("uid") == uid]
    return sorted(found, key=lambda event: int(event["metadata"]["resourceVersion"]))
