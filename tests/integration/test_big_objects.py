"""Others make our objects big: annotations alone may hold 256 KiB."""

from tests.integration.kube import until
from tests.integration.objects import chain
from tests.integration.sandbox import Lab

BIG = {"example.com/notes": "x" * 200_000}


def test_annotations_as_big_as_they_may_be_stop_nothing(lab: Lab) -> None:
    with lab.sandbox("big", forked=True) as box:
        box.operator.start()
        pid = box.operator.pid
        box.create(*chain())
        box.wait_settled()
        for kind, name in (("LeptonModel", "digits"), ("Deployment", "digits")):
            box.kube.patch(box.path(kind, name), {"metadata": {"annotations": BIG}})
        # What comes after on the same watches is seen.
        box.kube.patch(box.path("Deployment", "digits"), {"spec": {"replicas": 1}})
        until(lambda: box.get("Deployment", "digits")["spec"]["replicas"] == 2, box.report)
        box.edit("LeptonModel", "digits", {"replicas": 3})
        until(lambda: box.get("LeptonModel", "digits")["status"]["readyReplicas"] == 3, box.report)
        assert (box.operator.is_running, box.operator.pid) == (True, pid)
        assert box.get("Deployment", "digits")["metadata"]["annotations"].items() >= BIG.items()
