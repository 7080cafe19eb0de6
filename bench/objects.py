"""What the measures create: Lepton objects, and by hand the children that the operator would make of them."""

from bench.client import Json
from lepton_operator.api.model import MODEL, ModelSpec
from lepton_operator.context import Context
from lepton_operator.decide.version import find_target
from lepton_operator.desired.owner import Owner
from lepton_operator.desired.serving import deployment, service

API_VERSION = "lepton.ai/v1alpha1"
CLAIM = "bench-store"
"""Where the models' versions are said to be; nothing reads them."""

PLURALS = {
    "LeptonDataset": "leptondatasets",
    "LeptonTrainingJob": "leptontrainingjobs",
    "LeptonModel": "leptonmodels",
}
DONE = {"LeptonDataset": "Ready", "LeptonTrainingJob": "Succeeded", "LeptonModel": "Ready"}
"""The condition that says that an object is what it should be."""


def path(kind: str, namespace: str) -> str:
    """Collection of a Lepton kind."""
    return f"/apis/{API_VERSION}/namespaces/{namespace}/{PLURALS[kind]}"


def child_paths(namespace: str) -> list[str]:
    """Collections of what the operator makes."""
    return [
        f"/apis/apps/v1/namespaces/{namespace}/deployments",
        f"/apis/batch/v1/namespaces/{namespace}/jobs",
    ]


def lepton(kind: str, name: str, spec: Json) -> Json:
    """A Lepton object."""
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def dataset(name: str) -> Json:
    """A LeptonDataset."""
    return lepton("LeptonDataset", name, {"source": {"builtin": "digits"}})


def training_job(name: str, data: str) -> Json:
    """A LeptonTrainingJob on a dataset that is there."""
    return lepton("LeptonTrainingJob", name, {"dataset": {"name": data}, "training": {"epochs": 1}})


def model(name: str, replicas: int = 1) -> Json:
    """A LeptonModel that needs no training job."""
    return lepton("LeptonModel", name, {"source": {"uri": f"pvc://{CLAIM}/models/one"}, "replicas": replicas})


def claim(name: str = CLAIM) -> Json:
    """A PersistentVolumeClaim that the local cluster binds at once."""
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def children_by_hand(namespace: str, name: str, uid: str) -> list[tuple[str, Json]]:
    """(collection, manifest) of the Deployment and the Service of a model, as the operator builds them."""
    obj = model(name)
    obj["metadata"] |= {"namespace": namespace, "uid": uid}
    spec = ModelSpec.model_validate(obj["spec"])
    target = find_target(spec, None, None, obj)
    assert target.artifact is not None
    owner = Owner(MODEL.name, namespace, name, uid)
    context = Context(
        trainer_image="simulated",
        server_image="simulated",
        image_pull_policy="IfNotPresent",
        store_size="10Gi",
        store_class=None,
        store_access_mode="ReadWriteMany",
        report_interval_seconds=10.0,
    )
    return [
        (
            f"/apis/apps/v1/namespaces/{namespace}/deployments",
            deployment(owner, spec, target.artifact, target.version, context),
        ),
        (f"/api/v1/namespaces/{namespace}/services", service(owner, spec)),
    ]
