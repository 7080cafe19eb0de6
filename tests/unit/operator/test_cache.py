"""Caches: the larger version wins, whatever the order of arrival."""

from typing import Any

from lepton_operator.cache import LAST_APPLIED, Cache
from lepton_operator.observe import references_of
from lepton_operator.resources import JOB, LEPTON_RESOURCES, POD


def job(name: str = "j", uid: str = "u1", version: int = 1, owner: str = "o1", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "ns",
            "name": name,
            "uid": uid,
            "resourceVersion": str(version),
            "ownerReferences": [{"controller": True, "uid": owner, "kind": "LeptonModel", "name": "m"}],
            "managedFields": [{}],
            "annotations": {LAST_APPLIED: "{}", "kept": "yes"},
        },
        "spec": spec,
    }


def version(cache: Cache) -> str | None:
    held = cache.get("ns", "j")
    return held["metadata"]["resourceVersion"] if held is not None else None


def test_an_older_or_equal_version_is_ignored() -> None:
    cache = Cache(JOB)
    assert cache.upsert(job(version=10))
    assert not cache.upsert(job(version=9))
    assert not cache.upsert(job(version=10))
    assert cache.upsert(job(version=11))
    assert version(cache) == "11"


def test_versions_are_numbers_not_texts() -> None:
    cache = Cache(JOB)
    cache.upsert(job(version=99))
    assert cache.upsert(job(version=100))


def test_a_late_deletion_of_an_earlier_uid_leaves_the_new_object() -> None:
    cache = Cache(JOB)
    cache.upsert(job(uid="old", version=1))
    cache.upsert(job(uid="new", version=5))
    assert not cache.remove(job(uid="old", version=6))
    assert version(cache) == "5"


def test_a_late_update_of_an_earlier_uid_does_not_replace_the_new_object() -> None:
    cache = Cache(JOB)
    cache.upsert(job(uid="new", version=5))
    assert not cache.upsert(job(uid="old", version=4))
    held = cache.get("ns", "j")
    assert held is not None
    assert held["metadata"]["uid"] == "new"


def test_the_late_answer_to_a_write_does_not_raise_the_dead() -> None:
    cache = Cache(JOB)
    cache.upsert(job(version=1))
    cache.remove(job(version=7))
    assert not cache.upsert(job(version=6), own=True)
    assert len(cache) == 0


def test_an_object_whose_label_came_back_is_taken_in_again() -> None:
    cache = Cache(JOB)
    cache.upsert(job(version=1))
    cache.remove(job(version=7))
    assert cache.upsert(job(version=8))


def test_a_list_drops_what_it_lacks_but_not_what_is_newer() -> None:
    cache = Cache(JOB)
    cache.upsert(job("gone", "a", 3))
    cache.upsert(job("made-since", "b", 20))
    cache.upsert(job("kept", "c", 4))
    cache.upsert(job("kept", "c", 4))
    cache.upsert(job("missed", "d", 8))
    cache.retain({"c", "d"}, version=10)
    assert sorted(obj["metadata"]["name"] for obj in cache) == ["kept", "made-since", "missed"]


def test_a_list_of_one_namespace_says_nothing_about_others() -> None:
    cache = Cache(JOB)
    cache.upsert(job("a", "a", 1))
    cache.retain((), version=10, namespace="elsewhere")
    assert len(cache) == 1


def test_slim_copies_keep_the_rest_and_leave_the_original_alone() -> None:
    cache, raw = Cache(JOB), job()
    cache.upsert(raw)
    held = cache.get("ns", "j")
    assert held is not None
    assert "managedFields" not in held["metadata"]
    assert held["metadata"]["annotations"] == {"kept": "yes"}
    assert (held["apiVersion"], held["kind"]) == ("batch/v1", "Job")
    assert LAST_APPLIED in raw["metadata"]["annotations"]


def test_children_are_found_by_controller_and_pods_by_label() -> None:
    jobs, pods = Cache(JOB), Cache(POD)
    jobs.upsert(job("b", "u2", 1))
    jobs.upsert(job("a", "u1", 2))
    jobs.upsert(job("c", "u3", 3, owner="other"))
    assert [obj["metadata"]["name"] for obj in jobs.owned_by("o1")] == ["a", "b"]
    pod = job("p", "u4", 4, owner="a-job")
    pod["metadata"]["labels"] = {"lepton.ai/uid": "o1"}
    pods.upsert(pod)
    assert len(pods.owned_by("o1")) == 1
    pod = {**pod, "metadata": {**pod["metadata"], "resourceVersion": "5", "labels": {}}}
    pods.upsert(pod)
    assert pods.owned_by("o1") == []


def test_objects_are_found_by_what_they_name() -> None:
    cache = Cache(LEPTON_RESOURCES[1], references_of=references_of)
    cache.upsert(job("t", "u", 1, dataset={"name": "digits"}))
    assert len(cache.referring_to("ns", "LeptonDataset/digits")) == 1
    assert cache.referring_to("other", "LeptonDataset/digits") == []
    cache.upsert(job("t", "u", 2, dataset={"name": "faces"}))
    assert cache.referring_to("ns", "LeptonDataset/digits") == []
    cache.remove(job("t", "u", 3))
    assert cache.referring_to("ns", "LeptonDataset/faces") == []


def test_listeners_hear_of_changes_only() -> None:
    cache = Cache(JOB)
    heard: list[tuple[bool, bool, bool]] = []
    cache.subscribe(lambda before, after, own: heard.append((before is None, after is None, own)))
    cache.upsert(job(version=1))
    cache.upsert(job(version=1))
    cache.upsert(job(version=2), own=True)
    cache.remove(job(version=3))
    cache.remove(job(version=3))
    assert heard == [(True, False, False), (False, False, True), (False, True, False)]


def test_a_pod_is_held_without_what_only_its_owner_says() -> None:
    pods = Cache(POD)
    container = {
        "name": "server",
        "image": "one",
        "env": [{"name": "TASK", "value": "{}"}],
        "command": ["python"],
    }
    pods.upsert(job("p", nodeName="one", containers=[container], tolerations=[{}]))
    held = pods.get("ns", "p")
    assert held is not None
    assert held["spec"] == {"nodeName": "one", "containers": [{"name": "server", "image": "one"}]}


def test_what_did_not_change_is_not_held_twice() -> None:
    cache = Cache(JOB)
    changes: list[tuple[Any, Any]] = []
    cache.subscribe(lambda before, after, _own: changes.append((before, after)))
    cache.upsert(job(version=1, template={"containers": [{"name": "train"}]}))
    cache.upsert(job(version=2, template={"containers": [{"name": "train"}]}))
    before, after = changes[-1]
    assert after["spec"] is before["spec"]
    assert after["metadata"] is not before["metadata"]


def test_equal_values_of_other_types_stay_what_they_are() -> None:
    cache = Cache(JOB)
    cache.upsert(job("a", "u1", flag={"value": 1}, text={"value": "1"}))
    cache.upsert(job("b", "u2", flag={"value": True}, text={"value": "1"}))
    one, other = cache.get("ns", "a"), cache.get("ns", "b")
    assert one is not None
    assert other is not None
    assert one["spec"]["flag"]["value"] is not True
    assert other["spec"]["flag"]["value"] is True
    assert one["spec"]["text"] is other["spec"]["text"]
