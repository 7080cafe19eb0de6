"""The default store: the only child that outlives its objects."""

from lepton_operator.context import Context
from lepton_operator.desired.owner import MANAGED_BY, MANAGER
from lepton_operator.desired.pod import Manifest


def store_claim(name: str, context: Context) -> Manifest:
    """A PersistentVolumeClaim of the settings' size, class and access mode."""
    spec: Manifest = {
        "accessModes": [context.store_access_mode],
        "resources": {"requests": {"storage": context.store_size}},
    }
    if context.store_class is not None:
        spec["storageClassName"] = context.store_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "store", MANAGED_BY: MANAGER}},
        "spec": spec,
    }
