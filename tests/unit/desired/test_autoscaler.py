"""The autoscaler, and how spec.replicas changes hands."""

from typing import Any

import pytest

from lepton_operator.api.model import Autoscaling
from lepton_operator.desired.autoscaler import (
    BY_AUTOSCALER,
    BY_SPEC,
    REPLICAS_ANNOTATION,
    ReplicaRange,
    autoscaler,
    hand_over,
)
from tests.unit.desired.test_manifests import OWNER, serving

ALLOWED = ReplicaRange(2, 5)
SCALING = {"minReplicas": 2, "maxReplicas": 5}


def live(replicas: int | None, holder: str | None = BY_SPEC) -> dict[str, Any]:
    """A Deployment as it is in the cluster."""
    meta: dict[str, Any] = {"name": "m", "namespace": "team", "uid": "u", "resourceVersion": "9"}
    if holder is not None:
        meta["annotations"] = {REPLICAS_ANNOTATION: holder}
    spec = {} if replicas is None else {"replicas": replicas}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


def test_the_autoscaler_scales_the_deployment_by_cpu() -> None:
    spec = autoscaler(OWNER, Autoscaling.model_validate(SCALING))["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": OWNER.name}
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 5)
    assert spec["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 80}
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 300
    told = SCALING | {"targetCPUUtilizationPercentage": 50, "scaleDownStabilizationSeconds": 0}
    spec = autoscaler(OWNER, Autoscaling.model_validate(told))["spec"]
    assert spec["metrics"][0]["resource"]["target"]["averageUtilization"] == 50
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 0


def test_an_autoscaled_deployment_says_no_number() -> None:
    assert "replicas" not in serving(autoscaling=SCALING)["spec"]
    assert serving(autoscaling=SCALING)["metadata"]["annotations"][REPLICAS_ANNOTATION] == BY_AUTOSCALER
    assert serving()["spec"]["replicas"] == 1
    assert serving(replicas=3)["spec"]["replicas"] == 3
    assert serving(replicas=3)["metadata"]["annotations"][REPLICAS_ANNOTATION] == BY_SPEC


@pytest.mark.parametrize(("replicas", "handed"), [(4, 4), (2, 2), (1, 2), (0, 2), (9, 5), (None, 2)])
def test_a_number_that_we_applied_is_handed_over_within_the_range(replicas: int | None, handed: int) -> None:
    loan = hand_over(live(replicas), ALLOWED)
    assert loan is not None
    assert loan["spec"] == {"replicas": handed}
    assert loan["metadata"] == {"name": "m", "namespace": "team", "uid": "u", "resourceVersion": "9"}
    assert hand_over(live(replicas, holder=None), ALLOWED) == loan


@pytest.mark.parametrize("replicas", [2, 5, 9])
def test_the_autoscalers_number_is_left_alone(replicas: int) -> None:
    """Above the most it comes back by itself."""
    assert hand_over(live(replicas, BY_AUTOSCALER), ALLOWED) is None


@pytest.mark.parametrize("replicas", [0, 1])
def test_an_autoscaler_that_sleeps_at_zero_or_just_began_gets_its_least(replicas: int) -> None:
    loan = hand_over(live(replicas, BY_AUTOSCALER), ALLOWED)
    assert loan is not None
    assert loan["spec"] == {"replicas": 2}
