"""Where each kind lives in the Kubernetes API: group, version, plural."""

from dataclasses import dataclass

from lepton_operator.api import KINDS
from lepton_operator.api.kind import GROUP, VERSION


@dataclass(frozen=True, slots=True)
class Resource:
    """A namespaced resource of the API."""

    kind: str
    group: str
    version: str
    plural: str

    @property
    def api_version(self) -> str:
        """group/version, as in a manifest."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """plural.group, as in RBAC messages and metrics."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """URL path of the collection, one object, or its subresource; namespace None means all."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part is not None]
        return "/".join(parts)


LEPTON_RESOURCES = tuple(Resource(kind.name, GROUP, VERSION, kind.plural) for kind in KINDS)
DATASET = next(resource for resource in LEPTON_RESOURCES if resource.kind == "LeptonDataset")

JOB = Resource("Job", "batch", "v1", "jobs")
POD = Resource("Pod", "", "v1", "pods")
DEPLOYMENT = Resource("Deployment", "apps", "v1", "deployments")
SERVICE = Resource("Service", "", "v1", "services")
DISRUPTION_BUDGET = Resource("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets")
AUTOSCALER = Resource("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers")
CLAIM = Resource("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims")
EVENT = Resource("Event", "", "v1", "events")
LEASE = Resource("Lease", "coordination.k8s.io", "v1", "leases")

OWNED_RESOURCES = (JOB, DEPLOYMENT, SERVICE, DISRUPTION_BUDGET, AUTOSCALER)
"""Children with the Lepton object as controlling owner; their pods are watched beside them."""

RESOURCE_BY_KIND = {
    resource.kind: resource for resource in (*LEPTON_RESOURCES, *OWNED_RESOURCES, POD, CLAIM, EVENT)
}
