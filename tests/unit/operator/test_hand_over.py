"""spec.replicas goes to the autoscaler: a second field manager holds it before ours lets it go."""

from typing import Any

import pytest

from lepton_operator.actions import Apply
from lepton_operator.api_errors import Conflict, Forbidden
from lepton_operator.apply import action_is_open
from lepton_operator.desired.autoscaler import BY_AUTOSCALER, BY_SPEC, REPLICAS_ANNOTATION, ReplicaRange
from tests.unit.operator.test_apply import KEY, Stage, reason

AUTOSCALED = Apply(
    {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "m", "annotations": {REPLICAS_ANNOTATION: BY_AUTOSCALER}},
        "spec": {"paused": False},
    },
    ReplicaRange(2, 5),
)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def deployment(stage: Stage, replicas: int, holder: str, *, seen: bool = True) -> Any:
    """A Deployment that is there already, in the cache or not."""
    spec = {"paused": False, "replicas": replicas}
    notes = {"annotations": {REPLICAS_ANNOTATION: holder}}
    live = stage.owned("Deployment", "m", metadata=notes, spec=spec)
    if seen:
        stage.world.children["Deployment"].upsert(live)
    return live


def replicas(stage: Stage) -> int:
    number: int = stage.cluster.objects["Deployment", "ns", "m"]["spec"]["replicas"]
    return number


@pytest.mark.parametrize("seen", [True, False])
async def test_the_live_number_is_held_before_ours_is_let_go(stage: Stage, seen: bool) -> None:
    deployment(stage, 4, BY_SPEC, seen=seen)
    applied = await stage.do(AUTOSCALED)
    assert stage.cluster.writes[-2:] == [
        ("apply as lepton-replicas", "Deployment/m"),
        ("apply", "Deployment/m"),
    ]
    assert (applied.writes, replicas(stage)) == (2, 4)
    assert (await stage.do(AUTOSCALED)).writes == 0
    assert not action_is_open(stage.world, KEY, AUTOSCALED)


async def test_a_number_that_changed_meanwhile_is_not_overwritten(stage: Stage) -> None:
    deployment(stage, 4, BY_SPEC)
    stage.cluster.fail = lambda verb, _resource: (
        Conflict("the object has been modified", status=409) if verb.endswith("replicas") else None
    )
    with pytest.raises(Conflict):
        await stage.do(AUTOSCALED)
    assert ("apply", "Deployment/m") not in stage.cluster.writes
    assert replicas(stage) == 4


async def test_ours_is_not_let_go_when_it_can_not_be_held(stage: Stage) -> None:
    """Without the second manager the number would fall to 1."""
    deployment(stage, 4, BY_SPEC)
    stage.cluster.fail = lambda verb, _resource: (
        Forbidden("admission says no", status=403) if verb.endswith("replicas") else None
    )
    assert reason(await stage.do(AUTOSCALED)) == "AdmissionDenied"
    assert ("apply", "Deployment/m") not in stage.cluster.writes


async def test_zero_becomes_the_least_since_no_autoscaler_leaves_zero(stage: Stage) -> None:
    deployment(stage, 0, BY_AUTOSCALER)
    assert action_is_open(stage.world, KEY, AUTOSCALED)
    await stage.do(AUTOSCALED)
    assert stage.cluster.writes == [("apply as lepton-replicas", "Deployment/m")]
    assert replicas(stage) == 2


async def test_the_autoscalers_number_causes_no_write(stage: Stage) -> None:
    deployment(stage, 5, BY_AUTOSCALER)
    assert not action_is_open(stage.world, KEY, AUTOSCALED)
    assert (await stage.do(AUTOSCALED)).writes == 0
