"""Another operator's finalizer on a Lepton object is its own: it stays, and deletion waits for it, not for us."""

import pytest

from tests.integration.kube import until
from tests.integration.objects import chain
from tests.integration.sandbox import Lab, Sandbox

FINALIZERS = ["kopf.zalando.org/KopfFinalizerMarker", "example.com/keeps-records"]
CHILD = {
    "LeptonDataset": "Job",
    "LeptonTrainingJob": "Job",
    "LeptonModel": "Deployment",
}


def name_of(kind: str) -> str:
    """The chain's object of a kind."""
    return next(str(obj["metadata"]["name"]) for obj in chain() if obj["kind"] == kind)


def visits(box: Sandbox, kind: str) -> float:
    """How often objects of the kind were visited."""
    return box.operator.total("lepton_reconcile_total", kind=kind)


@pytest.mark.parametrize("kind", CHILD)
def test_a_deleted_object_with_a_foreign_finalizer_is_left_alone(lab: Lab, kind: str) -> None:
    name = name_of(kind)
    with lab.sandbox(f"finalizer-{kind}") as box:
        box.operator.start()
        box.create(*chain())
        box.wait_settled()
        box.kube.patch(box.path(kind, name), {"metadata": {"finalizers": FINALIZERS}})
        until(box.operator.is_idle, "that the operator rests")
        written = len(box.proxy.writes())

        box.delete(kind, name)
        before = box.get(kind, name)
        assert before["metadata"]["deletionTimestamp"]
        # What would be made anew for a living object is not made for a dying one.
        seen = visits(box, kind)
        owned = [
            child["metadata"]["name"]
            for child in box.all(CHILD[kind])
            if child["metadata"]["ownerReferences"][0]["uid"] == before["metadata"]["uid"]
        ]
        for child in owned:
            box.delete(CHILD[kind], child)
        until(lambda: visits(box, kind) > seen and box.operator.is_idle(), "a visit after the child's end")
        assert owned
        own = [
            call for call in box.proxy.writes()[written:] if f"/{name}" in call.path or call.verb == "POST"
        ]
        assert not own, own
        after = box.get(kind, name)
        assert after["metadata"] == before["metadata"]

        box.kube.patch(box.path(kind, name), {"metadata": {"finalizers": FINALIZERS[1:]}})
        assert box.get(kind, name)["metadata"]["finalizers"] == FINALIZERS[1:]
        box.kube.patch(box.path(kind, name), {"metadata": {"finalizers": None}})
        until(lambda: box.find(kind, name) is None, "that the object is gone")
        for obj in chain():
            box.delete(obj["kind"], obj["metadata"]["name"])
        box.wait_empty()
        assert box.operator.is_running


def test_living_objects_with_foreign_finalizers_are_worked_on_as_all_others(lab: Lab) -> None:
    with lab.sandbox("finalizers") as box:
        box.operator.start()
        for obj in chain():
            box.create(obj | {"metadata": obj["metadata"] | {"finalizers": FINALIZERS}})
        box.wait_settled()
        for obj in box.lepton_objects():
            assert obj["metadata"]["finalizers"] == FINALIZERS
            box.kube.patch(box.path(obj["kind"], obj["metadata"]["name"]), {"metadata": {"finalizers": None}})
