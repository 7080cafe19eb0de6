"""CRDs and operator, by the same manifests that a user applies."""

import json
import shutil
import tempfile
from pathlib import Path

from demo.display import Deadline, Display
from demo.kubectl import Kubectl
from demo.setup import ROOT, SYSTEM_NAMESPACE


def overlay(images: dict[str, str], settings: dict[str, str]) -> str:
    """A kustomization over deploy/cluster with the images and settings of this cluster."""
    own = images.get("tensorflow-server")
    tensorflow = {"LEPTON_TENSORFLOW_SERVER_IMAGE": own} if own else {}
    name, _, tag = images["operator"].rpartition(":")
    values = {
        "LEPTON_TRAINER_IMAGE": images["trainer"],
        "LEPTON_SERVER_IMAGE": images["server"],
        **tensorflow,
        **settings,
    }
    return json.dumps(
        {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": SYSTEM_NAMESPACE,
            "resources": ["../deploy/cluster"],
            "images": [{"name": "lepton-operator", "newName": name, "newTag": tag}],
            "configMapGenerator": [
                {
                    "name": "lepton-operator",
                    "behavior": "merge",
                    "literals": [f"{key}={value}" for key, value in values.items()],
                }
            ],
        },
        indent=2,
    )


def install(display: Display, kubectl: Kubectl, images: dict[str, str], settings: dict[str, str]) -> None:
    """Applies the CRDs and the operator, waits until it is ready."""
    display.title("Installing the CRDs and the operator")
    kubectl.run("apply", "-f", str(ROOT / "crds"))
    kubectl.run("wait", "--for=condition=Established", "-f", str(ROOT / "crds"), "--timeout=60s")
    with tempfile.TemporaryDirectory() as scratch:
        over = Path(scratch, "overlay")
        over.mkdir()
        shutil.copytree(ROOT / "deploy", Path(scratch, "deploy"))
        (over / "kustomization.yaml").write_text(overlay(images, settings))
        kubectl.run("apply", "-k", str(over))
    deadline = Deadline(180, "The operator's start")
    while True:
        status = kubectl.json("get", "deployment", "lepton-operator", "-n", SYSTEM_NAMESPACE)
        spec, now = status["spec"], status.get("status", {})
        ready = now.get("readyReplicas", 0) >= spec["replicas"] == now.get("updatedReplicas", 0)
        seen = now.get("observedGeneration", 0) >= status["metadata"]["generation"]
        display.update({"operator": "ready" if ready and seen else "starting"})
        if ready and seen and now.get("replicas") == spec["replicas"]:
            return
        deadline.tick(f"see: kubectl -n {SYSTEM_NAMESPACE} describe pods")
