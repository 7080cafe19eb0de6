"""The writer: what it takes over, what it refuses, what it leaves alone."""

from typing import Any

import pytest

from lepton_operator.actions import Apply, Create, Delete
from lepton_operator.api_errors import ApiError, Conflict, Forbidden, Invalid, ServerError
from lepton_operator.apply import Applied, Applier, OwnerGone, action_is_open
from lepton_operator.facts import Key
from lepton_operator.observe import World
from tests.unit.operator.cluster_fake import FakeCluster

KEY = Key("LeptonModel", "ns", "m")
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "m", "labels": {"a": "b"}},
    "spec": {"x": 1},
}
JOB = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "m-a1"}, "spec": {}}
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "lepton-store"},
    "spec": {},
}


class Stage:
    """A cluster with one LeptonModel, and what writes its children."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.world = World(lambda _subject: None)
        self.owner = self.cluster.put("LeptonModel", "ns", "m")
        self.world.objects["LeptonModel"].upsert(self.owner)
        self.claims: list[Any] = []
        self.applier = Applier(self.cluster, self.world, self.claims.append)

    async def do(self, *actions: Any) -> Applied:
        return await self.applier.carry_out(KEY, self.owner, actions)

    def owned(self, kind: str, name: str, uid: str | None = None, owner: str = "m", **parts: Any) -> Any:
        """A child that is there already, controlled by `uid` of a LeptonModel."""
        reference = {
            "apiVersion": "lepton.ai/v1alpha1",
            "kind": "LeptonModel",
            "name": owner,
            "uid": uid or self.owner["metadata"]["uid"],
            "controller": True,
        }
        meta = {"ownerReferences": [reference], **parts.pop("metadata", {})}
        return self.cluster.put(kind, "ns", name, metadata=meta, **parts)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def reason(applied: Applied) -> str:
    assert len(applied.refusals) == 1
    return next(iter(applied.refusals.values())).reason


async def test_a_new_child_is_applied_once_with_its_owner(stage: Stage) -> None:
    assert (await stage.do(Apply(SERVICE))).writes == 1
    live = stage.cluster.objects["Service", "ns", "m"]
    (reference,) = live["metadata"]["ownerReferences"]
    assert reference["uid"] == stage.owner["metadata"]["uid"]
    assert (reference["controller"], reference["blockOwnerDeletion"]) == (True, False)
    assert (await stage.do(Apply(SERVICE))).writes == 0
    assert stage.cluster.writes == [("apply-new", "Service/m")]


async def test_an_edited_child_comes_back_and_foreign_fields_stay(stage: Stage) -> None:
    live = stage.owned("Service", "m", spec={"x": 2, "foreign": 3})
    live["metadata"]["labels"] = {"a": "b", "theirs": "kept"}
    stage.cluster.objects["Service", "ns", "m"] = live
    stage.world.children["Service"].upsert(live)
    assert (await stage.do(Apply(SERVICE))).writes == 1
    assert stage.cluster.writes == [("apply", "Service/m")]
    after = stage.cluster.objects["Service", "ns", "m"]
    assert after["spec"] == {"x": 1, "foreign": 3}
    assert after["metadata"]["labels"] == {"a": "b", "theirs": "kept"}
    assert after["metadata"]["uid"] == live["metadata"]["uid"]


async def test_ours_by_uid_but_unseen_is_taken_up_without_a_refusal(stage: Stage) -> None:
    stage.owned("Service", "m", spec={"x": 2})
    applied = await stage.do(Apply(SERVICE))
    assert (applied.writes, applied.refusals) == (1, {})
    assert stage.world.children["Service"].get("ns", "m") is not None


async def test_an_object_of_somebody_else_is_never_changed(stage: Stage) -> None:
    before = stage.cluster.put("Service", "ns", "m", spec={"x": 9})
    stage.cluster.put("Job", "ns", "m-a1")
    for action in (Apply(SERVICE), Create(JOB)):
        applied = await stage.do(action)
        assert reason(applied) == "NameConflict"
        assert applied.writes == 0
    assert stage.cluster.objects["Service", "ns", "m"] == before


async def test_only_the_first_visit_tries_before_it_looks(stage: Stage) -> None:
    stage.cluster.put("Service", "ns", "m", spec={"x": 9})
    assert reason(await stage.do(Apply(SERVICE))) == "NameConflict"
    assert stage.cluster.writes == [("apply-new", "Service/m")]
    stage.owner["status"] = {"observedGeneration": 1, "conditions": []}
    assert reason(await stage.do(Apply(SERVICE))) == "NameConflict"
    assert stage.cluster.writes == [("apply-new", "Service/m")]


async def test_an_object_that_comes_between_look_and_write_is_not_changed(stage: Stage) -> None:
    stage.owner["status"] = {"observedGeneration": 1, "conditions": []}
    foreign: list[Any] = []

    def come_between(verb: str, _resource: Any) -> None:
        if verb == "apply-new":
            foreign.append(stage.cluster.put("Service", "ns", "m", spec={"x": 1}))

    stage.cluster.fail = come_between
    assert reason(await stage.do(Apply(SERVICE))) == "NameConflict"
    assert stage.cluster.objects["Service", "ns", "m"] == foreign[0]


async def test_a_child_of_another_lepton_object_is_a_conflict(stage: Stage) -> None:
    stage.owned("Service", "m", uid="other", owner="other")
    applied = await stage.do(Apply(SERVICE))
    assert reason(applied) == "NameConflict"
    assert "LeptonModel/other" in applied.refusals["Service", "m"].message


async def test_a_child_of_an_earlier_uid_is_waited_for(stage: Stage) -> None:
    stage.owned("Service", "m", uid="earlier")
    stage.owned("Job", "m-a1", uid="earlier")
    assert reason(await stage.do(Apply(SERVICE))) == "WaitingForDeletion"
    assert reason(await stage.do(Create(JOB))) == "WaitingForDeletion"


async def test_a_child_being_deleted_is_waited_for(stage: Stage) -> None:
    live = stage.owned("Service", "m", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    stage.world.children["Service"].upsert(live)
    assert reason(await stage.do(Apply(SERVICE))) == "WaitingForDeletion"
    assert stage.cluster.writes == []


async def test_one_refusal_does_not_stop_the_other_actions(stage: Stage) -> None:
    stage.cluster.put("Service", "ns", "m")
    applied = await stage.do(Apply(SERVICE), Create(JOB))
    assert reason(applied) == "NameConflict"
    assert applied.writes == 1


async def test_a_kept_claim_has_no_owner_and_may_exist(stage: Stage) -> None:
    await stage.do(Create(CLAIM, keep=True))
    assert (
        "ownerReferences"
        not in stage.cluster.objects["PersistentVolumeClaim", "ns", "lepton-store"]["metadata"]
    )
    applied = await stage.do(Create(CLAIM, keep=True))
    assert (applied.writes, applied.refusals) == (0, {})
    assert [claim["metadata"]["name"] for claim in stage.claims] == ["lepton-store", "lepton-store"]


async def test_a_job_that_exists_is_not_created_again(stage: Stage) -> None:
    await stage.do(Create(JOB))
    await stage.do(Create(JOB))
    assert stage.cluster.writes == [("create", "Job/m-a1")]
    # After a restart the cache may be empty; the live job is found by its controller.
    stage.world.children["Job"].remove(stage.cluster.objects["Job", "ns", "m-a1"])
    applied = await stage.do(Create(JOB))
    assert (applied.writes, applied.refusals) == (0, {})


@pytest.mark.parametrize("gone", ["deleted", "deleting", "made anew"])
async def test_nothing_is_made_for_an_owner_that_is_gone(stage: Stage, gone: str) -> None:
    live = stage.cluster.objects["LeptonModel", "ns", "m"]
    if gone == "deleted":
        del stage.cluster.objects["LeptonModel", "ns", "m"]
    elif gone == "deleting":
        live["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    else:
        live["metadata"]["uid"] = "another"
    for action in (Apply(SERVICE), Create(JOB)):
        with pytest.raises(OwnerGone):
            await stage.do(action)
    assert stage.cluster.writes == []


REFUSED = [
    (
        Forbidden('pods "x" is forbidden: exceeded quota: q, requested: cpu=1', status=403),
        "QuotaExceeded",
        "exceeded quota",
    ),
    (Forbidden('violates PodSecurity "restricted:latest"', status=403), "AdmissionDenied", "PodSecurity"),
    (
        Forbidden(
            'User "u" cannot patch resource "services" in API group "" in the namespace "ns"',
            status=403,
        ),
        "Forbidden",
        "patch services",
    ),
    (Invalid("Service is invalid: spec.x: must not", status=422), "AdmissionDenied", "must not"),
]


@pytest.mark.parametrize(("error", "expected", "word"), REFUSED)
async def test_refusals_have_names(stage: Stage, error: ApiError, expected: str, word: str) -> None:
    stage.cluster.fail = lambda verb, _resource: error if verb == "apply-new" else None
    applied = await stage.do(Apply(SERVICE))
    assert reason(applied) == expected
    assert word in applied.refusals["Service", "m"].message


async def test_a_namespace_that_ends_gets_nothing(stage: Stage) -> None:
    text = "unable to create new content in namespace ns because it is being terminated"
    stage.cluster.fail = lambda verb, _resource: Forbidden(text, status=403) if verb == "create" else None
    with pytest.raises(OwnerGone):
        await stage.do(Create(JOB))


async def test_what_may_pass_is_raised(stage: Stage) -> None:
    stage.cluster.fail = lambda verb, _resource: ServerError("etcd", status=503) if verb == "create" else None
    with pytest.raises(ServerError):
        await stage.do(Create(JOB))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("failed calling webhook", "AdmissionDenied"),
        ("failed to create typed patch object (a/b): .x: field not declared in schema", "AdmissionDenied"),
        ("it broke", "ApiError"),
    ],
)
async def test_what_the_server_can_not_do_is_told(stage: Stage, said: str, expected: str) -> None:
    stage.cluster.fail = lambda verb, _resource: ServerError(said, status=500) if verb == "create" else None
    assert reason(await stage.do(Create(JOB))) == expected


async def test_a_child_made_anew_behind_our_back_leaves_the_cache(stage: Stage) -> None:
    stale = stage.owned("Service", "m", spec={"x": 2})
    stage.world.children["Service"].upsert(stale)
    stage.cluster.put("Service", "ns", "m")
    with pytest.raises(Conflict):
        await stage.do(Apply(SERVICE))
    assert stage.world.children["Service"].get("ns", "m") is None
    assert reason(await stage.do(Apply(SERVICE))) == "NameConflict"


async def test_deleting_needs_the_uid_and_tolerates_the_gone(stage: Stage) -> None:
    live = stage.owned("Job", "m-a1")
    stage.world.children["Job"].upsert(live)
    await stage.do(Delete("Job", "m-a1", "another uid"))
    assert ("Job", "ns", "m-a1") in stage.cluster.objects
    assert stage.world.children["Job"].get("ns", "m-a1") is not None
    uid = live["metadata"]["uid"]
    assert (await stage.do(Delete("Job", "m-a1", uid))).writes == 1
    assert stage.world.children["Job"].get("ns", "m-a1") is None
    assert (await stage.do(Delete("Job", "m-a1", uid))).writes == 0


async def test_what_is_still_to_be_done(stage: Stage) -> None:
    assert action_is_open(stage.world, KEY, Apply(SERVICE))
    assert not action_is_open(stage.world, KEY, Create(CLAIM, keep=True))
    await stage.do(Apply(SERVICE), Create(JOB))
    assert not action_is_open(stage.world, KEY, Apply(SERVICE))
    assert action_is_open(stage.world, KEY, Apply({**SERVICE, "spec": {"x": 7}}))
    uid = stage.cluster.objects["Job", "ns", "m-a1"]["metadata"]["uid"]
    assert action_is_open(stage.world, KEY, Delete("Job", "m-a1", uid))
    assert not action_is_open(stage.world, KEY, Delete("Job", "m-a1", "other"))


async def test_what_does_not_go_together_with_ours_is_taken_away(stage: Stage) -> None:
    """Two handlers of one probe, for example: each is valid alone, server-side apply would merge them."""
    live = stage.owned("Service", "m", spec={"x": 2, "foreign": 3})
    stage.world.children["Service"].upsert(live)
    refused = [Invalid("both x and foreign", status=422)]
    stage.cluster.fail = lambda verb, _resource: refused.pop() if verb == "apply" and refused else None
    applied = await stage.do(Apply(SERVICE))
    assert applied.refusals == {}
    assert [verb for verb, _ in stage.cluster.writes] == ["apply", "patch", "apply"]
    assert stage.cluster.objects["Service", "ns", "m"]["spec"] == {"x": 1}


async def test_what_is_invalid_alone_is_refused(stage: Stage) -> None:
    stage.world.children["Service"].upsert(stage.owned("Service", "m", spec={"x": 2}))
    stage.cluster.fail = lambda verb, _resource: (
        Invalid("x must be 2", status=422) if verb in ("apply", "patch") else None
    )
    assert reason(await stage.do(Apply(SERVICE))) == "AdmissionDenied"
    assert stage.cluster.objects["Service", "ns", "m"]["spec"] == {"x": 2}


LABELS = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "m-a1", "labels": {"a": "b"}}}


async def test_labels_come_back_where_the_child_is_and_make_none(stage: Stage) -> None:
    part = Apply(LABELS, create=False)
    assert not action_is_open(stage.world, KEY, part)
    assert (await stage.do(part)).writes == 0
    assert stage.cluster.writes == []
    stage.owned("Job", "m-a1", spec={"kept": 1})
    assert (await stage.do(part)).writes == 1
    live = stage.cluster.objects["Job", "ns", "m-a1"]
    assert (live["metadata"]["labels"], live["spec"]) == ({"a": "b"}, {"kept": 1})
    assert stage.world.children["Job"].get("ns", "m-a1") is not None
    assert (await stage.do(part)).writes == 0
