"""What generated specs refer to, and kubectl as a user calls it."""

import json
import os
import subprocess

from tests.integration.generated import CLAIMS
from tests.integration.kube import Kube, KubeError, Object, collection
from tests.integration.objects import API_VERSION, dataset, training_job
from tests.integration.sandbox import Sandbox


def furnish(box: Sandbox) -> None:
    """Claims, a prepared dataset, a trained network; the operator runs from here on."""
    for name in CLAIMS:
        spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
        meta = {"name": name}
        box.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec})
    box.operator.start()
    box.create(dataset("digits"), training_job("digits"))
    box.wait_settled()


def refusal(kube: Kube, obj: Object) -> Object:
    """What the API server says about an object, as `kubectl apply` asks it; empty when it takes it."""
    path = f"{collection(API_VERSION, obj['kind'], 'default')}?dryRun=All&fieldValidation=Strict"
    try:
        kube.request("POST", path, obj)
    except KubeError as error:
        said: Object = json.loads(error.text)
        return said
    return {}


def kubectl(*arguments: str) -> str:
    """What kubectl prints."""
    done = subprocess.run(
        [os.environ["KUBECTL"], *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout
