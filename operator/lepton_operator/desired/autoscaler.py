"""A model's HorizontalPodAutoscaler, and who says how many replicas its Deployment has."""

from dataclasses import dataclass

from lepton_operator.api.model import Autoscaling
from lepton_operator.desired.owner import Owner
from lepton_operator.desired.pod import Manifest
from lepton_operator.facts import Json

COMPONENT = "model"
REPLICAS_ANNOTATION = "lepton.ai/replicas-from"
"""Whether we applied `spec.replicas` (BY_SPEC) or left it out (BY_AUTOSCALER)."""
BY_SPEC = "spec"
BY_AUTOSCALER = "autoscaler"


def autoscaler(owner: Owner, scaling: Autoscaling) -> Manifest:
    """autoscaling/v2 HorizontalPodAutoscaler of the Deployment; of the LeptonModel it would change a spec."""
    target = {"type": "Utilization", "averageUtilization": scaling.target_cpu_utilization_percentage}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": owner.metadata(owner.name, COMPONENT),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": owner.name},
            "minReplicas": scaling.min_replicas,
            "maxReplicas": scaling.max_replicas,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            "behavior": {
                "scaleDown": {"stabilizationWindowSeconds": scaling.scale_down_stabilization_seconds}
            },
        },
    }


@dataclass(frozen=True, slots=True)
class ReplicaRange:
    """What an autoscaler may choose from."""

    fewest: int
    most: int

    def nearest(self, replicas: int) -> int:
        """The number itself where it is allowed."""
        return max(self.fewest, min(self.most, replicas))


def hand_over(live: Json, allowed: ReplicaRange) -> Manifest | None:
    """What a second field manager must apply before the autoscaler is left alone with `spec.replicas`.

    A field that its only manager stops applying is removed, and `spec.replicas` becomes 1 again: so another
    manager takes it at its live value first. And an autoscaler leaves a Deployment at 0 for ever, and one below
    its least for up to 15 s. The resourceVersion keeps a number that is no longer true from being written.
    """
    replicas = live["spec"].get("replicas", 1)
    ours = (live["metadata"].get("annotations") or {}).get(REPLICAS_ANNOTATION) != BY_AUTOSCALER
    if not ours and replicas >= allowed.fewest:
        return None
    meta = live["metadata"]
    kept = {name: meta[name] for name in ("name", "namespace", "uid", "resourceVersion") if name in meta}
    return {
        "apiVersion": live["apiVersion"],
        "kind": live["kind"],
        "metadata": kept,
        "spec": {"replicas": allowed.nearest(replicas)},
    }
