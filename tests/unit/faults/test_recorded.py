"""Pods as a real cluster showed them, with the Warning Events about them."""

import json
from pathlib import Path
from typing import Any

import pytest

from lepton_operator.facts import WarningFact
from lepton_operator.faults import Fault, look_again, pod_fault
from lepton_operator.faults.text import moment

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("recorded.json").read_text())

ROWS = [
    # (name, reason, texts in the message)
    ("cnn", None, ()),
    (
        "selector",
        "Unschedulable",
        ("didn't match Pod's node affinity/selector", "spec.podTemplate.nodeSelector"),
    ),
    ("gpu", "Unschedulable", ("Insufficient nvidia.com/gpu", "device plugin")),
    ("unseen", "Unschedulable", ("scheduler nobody", "spec.podTemplate.schedulerName")),
    ("secret", "ContainerConfigError", ("container fetch", "create Secret keys in this namespace")),
    ("key", "ContainerConfigError", ("container fetch", "add key depth to ConfigMap settings")),
    ("crash", "CrashLoop", ("container server", "exit code 1 ", "restarted 1 time)", "the disk is on fire")),
    ("killed", "CrashLoop", ("container server", "exit code 137 (SIGKILL)", "not for its memory limit")),
    ("stopped", "CrashLoop", ("container fetch", "exit code 143 (SIGTERM)")),
    ("silent", "ProbeFailing", ("container server", "startup probe (GET /healthz)", "connection refused")),
    ("memory", "OutOfMemory", ("container fetch", "limit of 10Mi", "exit code 137")),
    ("small", "OutOfMemory", ("container train", "limit of 100Mi")),
    ("tight", "OutOfMemory", ("container prepare", "limit of 10Mi")),
]
LATE = 1_900_000_000.0


def told(name: str) -> list[WarningFact]:
    """The Events about a pod, newest first."""
    pod = RECORDED[name]["pod"]["metadata"]["name"]
    facts = [
        WarningFact("Pod", pod, one["reason"], one["message"], moment(one["at"]))
        for one in RECORDED[name]["warnings"]
    ]
    return sorted(facts, key=lambda fact: -fact.timestamp)


def fault_of(name: str, now: float = LATE) -> Fault | None:
    return pod_fault(RECORDED[name]["pod"], told(name), now)


def test_every_recorded_pod_has_a_row() -> None:
    assert sorted(RECORDED) == sorted(name for name, _, _ in ROWS)


@pytest.mark.parametrize(("name", "reason", "texts"), ROWS, ids=[row[0] for row in ROWS])
def test_a_recorded_pod_is_explained(name: str, reason: str | None, texts: tuple[str, ...]) -> None:
    fault = fault_of(name)
    assert (fault and fault.reason) == reason
    for text in texts:
        assert fault is not None
        assert text in fault.message


@pytest.mark.parametrize("name", ["silent", "unseen"])
def test_time_alone_makes_a_fault_and_the_moment_is_known(name: str) -> None:
    pod = RECORDED[name]["pod"]
    begun = moment(pod["metadata"]["creationTimestamp"])
    assert fault_of(name, begun) is None
    wait = look_again([pod], begun)
    assert wait is not None
    assert fault_of(name, begun + wait - 1) is None
    assert fault_of(name, begun + wait) is not None
    assert look_again([pod], begun + wait) is None


def test_a_lost_event_costs_the_explanation_only() -> None:
    fault = pod_fault(RECORDED["silent"]["pod"], [], LATE)
    assert fault is not None
    assert fault.reason == "ProbeFailing"
    assert "connection refused" not in fault.message
