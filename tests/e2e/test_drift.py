"""What somebody does to children by hand: what is Lepton's comes back, what is theirs stays, and nobody fights."""

import pytest

from tests.audit import child_writes
from tests.e2e.cluster import Namespace, Object, dataset, model, training_job, until
from tests.e2e.hands import add, comes_back, content, patch, remove, replace, visited

AUTOSCALING = {"minReplicas": 2, "maxReplicas": 3}
LABELS = (
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/name",
    "lepton.ai/kind",
    "lepton.ai/name",
    "lepton.ai/uid",
)
NOBODY = {"nodeSelector": {"example.com/nowhere": "none"}}
"""Its pods wait for ever, so that its Job stays."""


@pytest.fixture(scope="module")
def served(shared: Namespace) -> Namespace:
    """A namespace with a model of two replicas, `steady`, and an autoscaled one, `auto`."""
    shared.apply(
        dataset(), training_job(), model("steady", replicas=2), model("auto", autoscaling=AUTOSCALING)
    )
    shared.wait("ltj/cnn", "Succeeded", 300)
    shared.wait("lm/steady", "Ready")
    shared.wait("lm/auto", "Ready")
    return shared


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("deployment", "steady"),
        ("service", "steady"),
        ("poddisruptionbudget", "steady"),
        ("deployment", "auto"),
        ("horizontalpodautoscaler", "auto"),
    ],
)
def test_a_deleted_child_comes_back(served: Namespace, kind: str, name: str) -> None:
    before = served.get(kind, name)["metadata"]["uid"]
    served.run("delete", kind, name)
    until(
        lambda: (obj := served.find(kind, name)) and obj["metadata"]["uid"] != before,
        f"that {kind} {name} is there again",
    )
    served.wait(f"lm/{name}", "Ready")


TEMPLATE = "/spec/template/spec/containers/0"
PROBE = f"{TEMPLATE}/livenessProbe"
EDITS: dict[str, tuple[str, tuple[Object, ...]]] = {
    "replicas": ("deployment", (replace("/spec/replicas", 1),)),
    "image": ("deployment", (replace(f"{TEMPLATE}/image", "example.com/other:1"),)),
    "command": ("deployment", (replace(f"{TEMPLATE}/command", ["sleep", "1000"]),)),
    "value of a variable": ("deployment", (replace(f"{TEMPLATE}/env/1/value", "7"),)),
    "variable of another source": (
        "deployment",
        (
            remove(f"{TEMPLATE}/env/1/value"),
            add(f"{TEMPLATE}/env/1/valueFrom", {"fieldRef": {"fieldPath": "metadata.name"}}),
        ),
    ),
    "variable taken away": ("deployment", (remove(f"{TEMPLATE}/env/1"),)),
    "period of a probe": ("deployment", (replace(f"{PROBE}/periodSeconds", 99),)),
    "probe taken away": ("deployment", (remove(PROBE),)),
    "probe of another kind": (
        "deployment",
        (remove(f"{PROBE}/httpGet"), add(f"{PROBE}/exec", {"command": ["true"]})),
    ),
    "init container taken away": ("deployment", (remove("/spec/template/spec/initContainers"),)),
    "strategy": ("deployment", (replace("/spec/strategy", {"type": "Recreate"}),)),
    "selector of the service": ("service", (add("/spec/selector/other", "pods"),)),
    "selector that lost its uid": ("service", (remove("/spec/selector/lepton.ai~1uid"),)),
    "port of the service": ("service", (replace("/spec/ports/0/port", 81),)),
    "type of the service": ("service", (replace("/spec/type", "NodePort"),)),
    "budget": ("poddisruptionbudget", (replace("/spec/maxUnavailable", 0),)),
    "budget of another form": (
        "poddisruptionbudget",
        (remove("/spec/maxUnavailable"), add("/spec/minAvailable", 1)),
    ),
    "fewest of the autoscaler": ("horizontalpodautoscaler", (replace("/spec/minReplicas", 1),)),
    "metrics of the autoscaler": (
        "horizontalpodautoscaler",
        (replace("/spec/metrics/0/resource/target/averageUtilization", 10),),
    ),
    "target of the autoscaler": (
        "horizontalpodautoscaler",
        (replace("/spec/scaleTargetRef/name", "steady"),),
    ),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_is_undone_with_few_writes(served: Namespace, what: str) -> None:
    kind, operations = EDITS[what]
    name = "auto" if kind == "horizontalpodautoscaler" else "steady"
    before, written = content(served.get(kind, name)), child_writes(served.name)
    patch(served, f"{kind}/{name}", *operations)
    comes_back(served, kind, name, before)
    visited(served, name)
    assert child_writes(served.name) - written <= 3


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("deployment", "steady"),
        ("service", "steady"),
        ("poddisruptionbudget", "steady"),
        ("horizontalpodautoscaler", "auto"),
    ],
)
def test_a_label_comes_back(served: Namespace, kind: str, name: str, label: str) -> None:
    before = served.get(kind, name)["metadata"]
    written = child_writes(served.name)
    served.run("label", kind, name, f"{label}-")
    until(
        lambda: served.get(kind, name)["metadata"]["labels"].get(label) == before["labels"][label],
        f"the label {label}",
        30,
    )
    visited(served, name)
    assert served.get(kind, name)["metadata"]["uid"] == before["uid"]
    assert child_writes(served.name) - written == 1


def test_what_others_add_stays_and_costs_no_write(served: Namespace) -> None:
    sidecar = {
        "name": "theirs",
        "image": served.get("deployment", "steady")["spec"]["template"]["spec"]["containers"][0]["image"],
        "command": ["sleep", "infinity"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    written = child_writes(served.name)
    for kind in ("deployment", "service", "poddisruptionbudget"):
        served.run("label", kind, "steady", "example.com/team=them")
        served.run("annotate", kind, "steady", "example.com/note=theirs")
    served.run("set", "env", "deployment/steady", "--containers=server", "THEIRS=1")
    patch(
        served,
        "deployment/steady",
        add("/spec/template/metadata/annotations/example.com~1note", "theirs"),
        add("/spec/template/spec/containers/-", sidecar),
        add("/spec/minReadySeconds", 1),
    )
    patch(served, "service/steady", add("/spec/sessionAffinity", "ClientIP"))
    served.run("rollout", "status", "deployment/steady", "--timeout=120s", timeout=130)
    served.wait("lm/steady", "Ready")
    visited(served, "steady")
    assert child_writes(served.name) == written
    for kind in ("deployment", "service", "poddisruptionbudget"):
        meta = served.get(kind, "steady")["metadata"]
        assert meta["labels"]["example.com/team"] == "them"
        assert meta["annotations"]["example.com/note"] == "theirs"
    spec = served.get("deployment", "steady")["spec"]
    assert spec["minReadySeconds"] == 1
    assert [one["name"] for one in spec["template"]["spec"]["containers"]] == ["server", "theirs"]
    assert {"name": "THEIRS", "value": "1"} in spec["template"]["spec"]["containers"][0]["env"]
    assert served.get("service", "steady")["spec"]["sessionAffinity"] == "ClientIP"
    served.run("set", "image", "deployment/steady", "server=example.com/other:1")
    until(
        lambda: (
            served.get("deployment", "steady")["spec"]["template"]["spec"]["containers"][0]["image"]
            == sidecar["image"]
        ),
        "Lepton's image",
    )
    after = served.get("deployment", "steady")["spec"]["template"]["spec"]
    assert [one["name"] for one in after["containers"]] == ["server", "theirs"]


def test_a_restart_by_hand_is_carried_out_once(served: Namespace) -> None:
    def pods() -> set[str]:
        return {pod["metadata"]["uid"] for pod in served.list("pods", "lepton.ai/name=steady")}

    served.wait("lm/steady", "Ready")
    before, written = pods(), child_writes(served.name)
    served.run("rollout", "restart", "deployment/steady")
    served.run("rollout", "status", "deployment/steady", "--timeout=120s", timeout=130)
    until(lambda: not before & pods(), "that the old pods are gone")
    served.wait("lm/steady", "Ready")
    visited(served, "steady")
    template = served.get("deployment", "steady")["spec"]["template"]
    assert "kubectl.kubernetes.io/restartedAt" in template["metadata"]["annotations"]
    assert child_writes(served.name) == written


# -- datasets and training jobs ----------------------------------------------------------------------


def waiting_job(namespace: Namespace, kind: str) -> str:
    """A LeptonDataset or LeptonTrainingJob `waits` whose Job waits for a node; the Job's name."""
    if kind == "LeptonDataset":
        namespace.apply(dataset("waits", podTemplate=NOBODY))
    else:
        namespace.apply(training_job("waits", podTemplate=NOBODY))
    job = until(lambda: namespace.list("jobs", f"lepton.ai/kind={kind},lepton.ai/name=waits"), "the Job")[0]
    namespace.wait_reason(kind, "waits", "Unschedulable", main_condition(kind))
    return str(job["metadata"]["name"])


def main_condition(kind: str) -> str:
    return "Ready" if kind == "LeptonDataset" else "Succeeded"


@pytest.mark.parametrize("kind", ["LeptonDataset", "LeptonTrainingJob"])
def test_a_relabelled_job_is_known_again_and_goes_on(served: Namespace, kind: str) -> None:
    job = waiting_job(served, kind)
    before = served.get("job", job)["metadata"]
    for labels in (("app.kubernetes.io/managed-by",), ("lepton.ai/uid", "lepton.ai/name"), LABELS):
        written = child_writes(served.name)
        served.run("label", "job", job, *(f"{label}-" for label in labels))
        until(lambda: served.get("job", job)["metadata"]["labels"] == before["labels"], "the labels", 30)
        assert child_writes(served.name) - written == 1
    assert served.get("job", job)["metadata"]["uid"] == before["uid"]
    jobs = [
        one["metadata"]["name"] for one in served.list("jobs", f"lepton.ai/kind={kind},lepton.ai/name=waits")
    ]
    assert jobs == [job]
    assert served.reason(kind, "waits", main_condition(kind)) == "Unschedulable"
    served.run("delete", kind, "waits")


@pytest.mark.parametrize("kind", ["LeptonDataset", "LeptonTrainingJob"])
def test_a_deleted_job_is_made_anew(served: Namespace, kind: str) -> None:
    job = waiting_job(served, kind)
    uid = served.get("job", job)["metadata"]["uid"]
    served.run("delete", "job", job)
    selector = f"lepton.ai/kind={kind},lepton.ai/name=waits"
    until(
        lambda: [one for one in served.list("jobs", selector) if one["metadata"]["uid"] != uid],
        "another Job",
    )
    served.run("delete", kind, "waits")


def test_the_service_of_a_gang_comes_back_while_it_is_needed(served: Namespace) -> None:
    waiting_job(served, "LeptonTrainingJob")
    before = content(served.get("service", "waits-train"))
    patch(served, "service/waits-train", remove("/spec/publishNotReadyAddresses"))
    comes_back(served, "service", "waits-train", before)
    patch(served, "service/waits-train", replace("/spec/ports/0/port", 1))
    comes_back(served, "service", "waits-train", before)
    served.run("label", "service", "waits-train", "app.kubernetes.io/managed-by-")
    comes_back(served, "service", "waits-train", before)
    served.run("delete", "service", "waits-train")
    until(lambda: served.find("service", "waits-train"), "the Service", 30)
    served.run("delete", "ltj", "waits")
