"""The operator's caches lag behind, in every way that watches allow: nothing is destroyed, the end is the same."""

import time
from dataclasses import dataclass

import pytest

from tests.integration.kube import Object, until
from tests.integration.objects import chain, dataset, training_job
from tests.integration.sandbox import Lab, Sandbox, side_by_side
from tests.integration.traffic import Call

LEPTON = frozenset(("leptondatasets", "leptontrainingjobs", "leptonmodels"))
CHILDREN = frozenset(("jobs", "deployments", "services", "poddisruptionbudgets", "pods", "events"))
FROZEN = {"everything": None, "objects": LEPTON, "children": CHILDREN}
CASES_EACH = 7
RESYNC_SECONDS = "10"
"""The list of the Lepton objects goes past the frozen watches: then they are newer than their children."""
OWNED = ("Job", "Deployment", "Service", "PodDisruptionBudget")


@dataclass(frozen=True)
class Case:
    """Which watches freeze after which event."""

    frozen: str
    after: int


def events_of_chain(lab: Lab) -> int:
    """How many events an operator gets while one object of each kind comes to its end."""
    with lab.sandbox("count-events", forked=True) as box:
        box.operator.start()
        box.create(*chain())
        box.wait_settled()
        until(box.operator.is_idle, "that the operator rests")
        return box.proxy.gate.passed


def test_a_name_used_again_while_the_caches_are_frozen(lab: Lab) -> None:
    end = lab.chain_end()
    total = events_of_chain(lab)
    step = max(1, total // CASES_EACH)
    cases = [Case(frozen, after) for frozen in FROZEN for after in range(0, total, step)]

    def run(case: Case) -> None:
        with lab.sandbox(
            f"frozen-{case.frozen}-{case.after}", forked=True, resync_seconds=RESYNC_SECONDS
        ) as box:
            box.operator.start()
            box.proxy.freeze(case.after, FROZEN[case.frozen])
            box.create(*chain())
            until(lambda: box.proxy.gate.held or box.dump() == end, "the frost", 90)
            # No visit is under way then: one that began before the deletion may well end behind it.
            box.wait_rests()
            dead = {obj["metadata"]["uid"] for obj in box.lepton_objects()}
            for obj in chain():
                box.delete(obj["kind"], obj["metadata"]["name"])
            deleted_at = time.monotonic()
            box.create(*chain())
            reread = box.operator.total("lepton_reconcile_total")
            # The resync has visited all three, with children of the dead in the caches.
            until(lambda: box.operator.total("lepton_reconcile_total") >= reread + 3, "visits", 60)
            until(box.operator.is_idle, "that the operator rests")
            frozen_calls = list(box.proxy.calls)
            box.proxy.thaw()
            box.wait_dump(end)
            check_harmless(box, frozen_calls, dead, deleted_at)

    side_by_side(cases, run)


def check_harmless(box: Sandbox, calls: list[Call], dead: set[str], since: float) -> None:
    """Nothing of the living was deleted, and nothing was made for the dead."""
    living = {child["metadata"]["uid"] for kind in OWNED for child in box.all(kind)}
    for call in calls:
        if not call.is_write or call.at < since or not 200 <= call.code <= 299:
            continue
        if call.verb == "DELETE":
            assert call.body["preconditions"]["uid"] not in living, call
        else:
            owners = {one["uid"] for one in call.body.get("metadata", {}).get("ownerReferences", ())}
            assert not owners & dead, call


def held_is_stable(box: Sandbox, before: list[int]) -> bool:
    """Nothing new has come since the last look: the API server has said all that it has to say."""
    count = len(box.proxy.gate.held)
    stable = before == [count] and count > 0
    before[:] = [count]
    return stable


def told_in_bursts(box: Sandbox, end: list[str], reverse: bool) -> None:
    """Until the end: wait until the API server is quiet, tell only the last of each object."""
    seen: list[int] = []

    def look() -> bool:
        if held_is_stable(box, seen):
            box.proxy.release(reverse)
        return not box.proxy.gate.held and box.operator.is_idle() and box.dump() == end

    until(look, box.report, 120, poll=0.3)


@pytest.mark.parametrize("reverse", [False, True], ids=["in order", "last watch first"])
def test_all_but_the_last_event_of_each_object_are_missed(lab: Lab, reverse: bool) -> None:
    end = lab.chain_end()
    with lab.sandbox("merged", forked=True) as box:
        box.operator.start()
        box.proxy.hold_all(merge=True)
        box.create(*chain())
        told_in_bursts(box, end, reverse)
        assert box.proxy.gate.merged > 0


@pytest.mark.parametrize("reverse", [False, True], ids=["in order", "last watch first"])
def test_a_deletion_that_was_never_told_is_made_good(lab: Lab, reverse: bool) -> None:
    """Of deletion and new creation under one name only the creation is told."""
    end = lab.chain_end()
    with lab.sandbox("merged-again", forked=True) as box:
        box.operator.start()
        box.create(*chain())
        box.wait_dump(end)
        old = uids(box.lepton_objects())
        box.proxy.hold_all(merge=True)
        for obj in chain():
            box.delete(obj["kind"], obj["metadata"]["name"])
        until(lambda: not box.all("Pod"), "that the old children are gone")
        box.create(*chain())
        told_in_bursts(box, end, reverse)
        assert not uids(box.lepton_objects()) & old


def test_edits_of_which_only_the_last_is_told(lab: Lab) -> None:
    def act(box: Sandbox) -> None:
        for replicas in (1, 3, 1, 4):
            box.edit("LeptonModel", "digits", {"replicas": replicas})
        for revision in ("a", "b", "c"):
            box.edit("LeptonDataset", "digits", {"revision": revision})
        box.create(training_job("better"), dataset("other"))
        box.edit("LeptonModel", "digits", {"source": {"trainingJob": {"name": "better"}}})

    with lab.sandbox("edits-told", forked=True) as box:
        box.operator.start()
        box.create(*chain())
        box.wait_settled()
        act(box)
        box.wait_settled()
        until(box.operator.is_idle, "that the operator rests")
        end = box.dump()
    with lab.sandbox("edits-merged", forked=True) as box:
        box.operator.start()
        box.create(*chain())
        box.wait_settled()
        box.proxy.hold_all(merge=True)
        act(box)
        told_in_bursts(box, end, reverse=False)


def uids(objects: list[Object]) -> set[str]:
    """metadata.uid of each."""
    return {obj["metadata"]["uid"] for obj in objects}
