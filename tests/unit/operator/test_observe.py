"""What a decision sees, and whom a change concerns."""

from typing import Any

import pytest

from lepton_operator.actions import Pull
from lepton_operator.facts import Key, Refusal
from lepton_operator.observe import Observer, World
from lepton_operator.queue import WorkQueue
from lepton_operator.reports import ReportBook, ReportPuller
from lepton_operator.routing import Router
from lepton_workloads.contract.outcome import Report
from tests.unit.operator.cluster_fake import FakeCluster

MODEL = Key("LeptonModel", "ns", "m")
JOB_KEY = Key("LeptonTrainingJob", "ns", "t")
CREATED = "2026-01-01T10:00:00Z"


class Stage:
    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.queue = WorkQueue()
        self.router = Router(self.queue)
        self.world = World(self.router.warned)
        self.book = ReportBook()
        self.puller = ReportPuller(self.book, _no_fetch, interval_seconds=10, on_news=self.queue.add)
        self.observer = Observer(self.world, self.cluster, self.book)
        put = self.cluster.put
        self.job = put("LeptonTrainingJob", "ns", "t", spec={"dataset": {"name": "d"}})
        self.model = put("LeptonModel", "ns", "m", spec={"source": {"trainingJob": {"name": "t"}}})
        self.world.objects["LeptonTrainingJob"].upsert(self.job)
        self.world.objects["LeptonModel"].upsert(self.model)
        self.router.attach(self.world, self.puller)

    def keys(self) -> set[Key]:
        taken = set()
        while (key := self.queue.take()) is not None:
            taken.add(key)
            self.queue.done(key)
        return taken

    def child(self, kind: str, name: str, owner: Any, **parts: Any) -> Any:
        meta = owner["metadata"]
        labels = {
            "lepton.ai/kind": owner["kind"],
            "lepton.ai/name": meta["name"],
            "lepton.ai/uid": meta["uid"],
        }
        reference = {"kind": owner["kind"], "name": meta["name"], "uid": meta["uid"], "controller": True}
        metadata = {"labels": labels, "creationTimestamp": CREATED}
        if kind != "Pod":
            metadata["ownerReferences"] = [reference]
        obj = self.cluster.put(kind, "ns", name, metadata=metadata, **parts)
        cache = self.world.pods if kind == "Pod" else self.world.children[kind]
        cache.upsert(obj)
        return obj

    def warn(
        self, about: Any, reason: str, message: str, at: str = "2026-01-01T10:00:05Z", **more: Any
    ) -> None:
        meta = about["metadata"]
        involved = {
            "kind": about["kind"],
            "namespace": "ns",
            "name": meta["name"],
            "uid": meta["uid"],
            **more,
        }
        self.world.warnings.upsert(
            {
                "metadata": {"name": "e", "namespace": "ns"},
                "type": "Warning",
                "reason": reason,
                "message": message,
                "lastTimestamp": at,
                "involvedObject": involved,
            }
        )


async def _no_fetch(_namespace: str, _pull: Pull) -> bytes:
    raise AssertionError


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def test_children_pods_and_references_of_one_uid(stage: Stage) -> None:
    stage.child("Job", "t-train-a1", stage.job)
    stage.child("Pod", "t-train-a1-0", stage.job)
    earlier = {**stage.job, "metadata": {**stage.job["metadata"], "uid": "earlier"}}
    stage.child("Job", "t-train-a0", earlier)
    stage.child("Pod", "t-train-a0-0", earlier)
    refusal = Refusal("Service", "t", "QuotaExceeded", "")
    seen = await stage.observer.observe(JOB_KEY, stage.job, (), (refusal,))
    assert list(seen.children) == [("Job", "t-train-a1")]
    assert [pod["metadata"]["name"] for pod in seen.pods] == ["t-train-a1-0"]
    assert (seen.dataset, seen.refusals) == (None, (refusal,))
    stage.world.objects["LeptonDataset"].upsert(stage.cluster.put("LeptonDataset", "ns", "d"))
    assert (await stage.observer.observe(JOB_KEY, stage.job, (), ())).dataset is not None
    model = await stage.observer.observe(MODEL, stage.model, (), ())
    assert model.training_job is not None
    assert model.dataset is None


async def test_claims_are_read_by_name_and_believed_for_a_moment(stage: Stage) -> None:
    seen = await stage.observer.observe(MODEL, stage.model, ("store",), ())
    assert seen.claims == {"store": None}
    stage.cluster.put("PersistentVolumeClaim", "ns", "store")
    for _ in range(3):
        seen = await stage.observer.observe(MODEL, stage.model, ("store",), ())
        assert seen.claims["store"] is not None
    assert stage.cluster.calls.count(("get", "PersistentVolumeClaim/store")) == 2


async def test_reports_follow_their_pods(stage: Stage) -> None:
    pod = stage.child("Pod", "t-train-a1-0", stage.job)
    uid = pod["metadata"]["uid"]
    stage.book.put(uid, Report(owner_uid=stage.job["metadata"]["uid"], epoch=2))
    seen = await stage.observer.observe(JOB_KEY, stage.job, (), ())
    assert seen.reports[uid].epoch == 2
    stage.world.pods.remove(pod)
    assert stage.book.get(uid) is None


async def test_warnings_about_children_their_replica_sets_pods_and_claims(stage: Stage) -> None:
    deployment = stage.child("Deployment", "m", stage.model)
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "store"}}]
    pod = stage.child("Pod", "m-abc-1", stage.model, spec={"volumes": volumes})
    replica_set = {"kind": "ReplicaSet", "metadata": {"name": "m-abc", "uid": "rs"}}
    claim = {"kind": "PersistentVolumeClaim", "metadata": {"name": "store", "uid": "c"}}
    stage.keys()
    for number, (about, reason) in enumerate(
        [
            (deployment, "FailedCreate"),
            (replica_set, "FailedCreate"),
            (pod, "FailedScheduling"),
            (claim, "ProvisioningFailed"),
        ]
    ):
        stage.warn(about, reason, "why", at=f"2026-01-01T10:00:0{number}Z")
        assert stage.keys() == {MODEL}
    seen = await stage.observer.observe(MODEL, stage.model, (), ())
    assert [fact.name for fact in seen.warnings] == ["store", "m-abc-1", "m-abc", "m"]


async def test_warnings_of_others_of_earlier_uids_and_of_earlier_lives_are_left_out(stage: Stage) -> None:
    deployment = stage.child("Deployment", "m", stage.model)
    pod = stage.child("Pod", "m-abc-1", stage.model)
    stage.keys()
    stage.warn(pod, "FailedMount", "another uid", uid="other")
    stage.warn(deployment, "FailedCreate", "before it was made", at="2026-01-01T09:00:00Z")
    stage.warn(deployment, "SomethingElse", "unknown reason")
    stage.warn({"kind": "Pod", "metadata": {"name": "foreign", "uid": "f"}}, "FailedMount", "not ours")
    seen = await stage.observer.observe(MODEL, stage.model, (), ())
    assert seen.warnings == ()


async def test_the_newest_word_of_each_probe_is_kept(stage: Stage) -> None:
    pod = stage.child("Pod", "m-abc-1", stage.model)
    stage.warn(pod, "Unhealthy", "Liveness probe failed: hangs", at="2026-01-01T10:00:01Z")
    stage.warn(pod, "Unhealthy", "Readiness probe failed: 500", at="2026-01-01T10:00:02Z")
    stage.warn(pod, "Unhealthy", "Readiness probe failed: 503", at="2026-01-01T10:00:03Z")
    seen = await stage.observer.observe(MODEL, stage.model, (), ())
    assert [fact.message for fact in seen.warnings] == [
        "Readiness probe failed: 503",
        "Liveness probe failed: hangs",
    ]


async def test_a_flood_of_foreign_warnings_stays_bounded(stage: Stage) -> None:
    for number in range(5000):
        stage.warn({"kind": "Pod", "metadata": {"name": f"p{number}", "uid": "x"}}, "Failed", "m")
    assert len(stage.world.warnings._subjects) == 2000


async def test_events_of_children_reach_the_owner(stage: Stage) -> None:
    pod = stage.child("Pod", "m-abc-1", stage.model)
    assert stage.keys() == {MODEL}
    stage.world.pods.remove(pod)
    assert stage.keys() == {MODEL}
    service = stage.child("Service", "m", stage.model)
    stage.keys()
    meta = {**service["metadata"], "labels": {"lepton.ai/name": "stranger"}, "resourceVersion": "9999"}
    stage.world.children["Service"].upsert({**service, "metadata": meta})
    assert stage.keys() == {MODEL}


async def test_dependants_hear_of_what_they_name(stage: Stage) -> None:
    dataset = stage.cluster.put("LeptonDataset", "ns", "d")
    stage.world.objects["LeptonDataset"].upsert(dataset)
    assert stage.keys() == {Key("LeptonDataset", "ns", "d"), JOB_KEY}
    stage.world.objects["LeptonDataset"].upsert(
        {**dataset, "metadata": {**dataset["metadata"], "resourceVersion": "500"}, "status": {"x": 1}},
        own=True,
    )
    assert stage.keys() == {JOB_KEY}
    stage.world.objects["LeptonTrainingJob"].remove(stage.job)
    assert stage.keys() == {JOB_KEY, MODEL}


async def test_an_edit_that_comes_back_with_our_own_status_write_is_not_lost(stage: Stage) -> None:
    def answer(version: int, **spec: Any) -> Any:
        meta = {**stage.model["metadata"], "resourceVersion": str(version)}
        return {
            **stage.model,
            "metadata": meta,
            "spec": {**stage.model["spec"], **spec},
            "status": {"n": version},
        }

    cache = stage.world.objects["LeptonModel"]
    cache.upsert(answer(100), own=True)
    assert stage.keys() == set()
    cache.upsert(answer(102, replicas=5), own=True)
    assert stage.keys() == {MODEL}
    assert not cache.upsert(answer(101, replicas=5))


async def test_a_job_that_lost_its_labels_is_found_by_name(stage: Stage) -> None:
    """It has left the watch as if it were deleted."""
    job = stage.child("Job", "t-train-a1", stage.job)
    stage.world.children["Job"].remove(job)
    seen = await stage.observer.observe(JOB_KEY, stage.job, (), (), ("t-train-a1", "t-train-a2"))
    assert list(seen.children) == [("Job", "t-train-a1")]
    stage.cluster.objects["Job", "ns", "t-train-a1"]["metadata"]["ownerReferences"] = []
    seen = await stage.observer.observe(JOB_KEY, stage.job, (), (), ("t-train-a1",))
    assert seen.children == {}, "somebody else's is not ours"


async def test_a_job_that_is_known_is_not_read(stage: Stage) -> None:
    stage.child("Job", "t-train-a1", stage.job)
    before = len(stage.cluster.calls)
    await stage.observer.observe(JOB_KEY, stage.job, (), (), ("t-train-a1",))
    assert len(stage.cluster.calls) == before


async def test_a_dataset_is_read_anew_when_its_data_is_about_to_be_pinned(stage: Stage) -> None:
    """Its cache may lag: an edit just before the training job was made would not be seen."""
    ready = {"conditions": [{"type": "Ready", "status": "True", "observedGeneration": 1}]}
    old = stage.cluster.put(
        "LeptonDataset", "ns", "d", metadata={"generation": 1}, spec={"revision": "1"}, status=ready
    )
    stage.world.objects["LeptonDataset"].upsert(old)
    stage.cluster.objects["LeptonDataset", "ns", "d"]["metadata"]["generation"] = 2
    seen = await stage.observer.observe(JOB_KEY, stage.job, (), ())
    assert seen.dataset is not None
    assert seen.dataset["metadata"]["generation"] == 2
    pinned = {**stage.job, "status": {"datasetDigest": "ab"}}
    before = len(stage.cluster.calls)
    seen = await stage.observer.observe(JOB_KEY, pinned, (), ())
    assert seen.dataset is not None
    assert seen.dataset["metadata"]["generation"] == 1
    assert len(stage.cluster.calls) == before
    del stage.cluster.objects["LeptonDataset", "ns", "d"]
    assert (await stage.observer.observe(JOB_KEY, stage.job, (), ())).dataset is None
