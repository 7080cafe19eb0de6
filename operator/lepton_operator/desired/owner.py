"""The object that children belong to, and the labels that lead from a child back to it."""

from dataclasses import dataclass
from typing import Any

from lepton_operator.facts import Json

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "lepton"
KIND_LABEL = "lepton.ai/kind"
NAME_LABEL = "lepton.ai/name"
UID_LABEL = "lepton.ai/uid"
VERSION_LABEL = "lepton.ai/version"
ATTEMPT_LABEL = "lepton.ai/attempt"
FOLD_LABEL = "lepton.ai/fold"


@dataclass(frozen=True, slots=True)
class Owner:
    """Identity of a Lepton object."""

    kind: str
    namespace: str
    name: str
    uid: str

    @classmethod
    def of(cls, obj: Json) -> "Owner":
        """The identity of an object as the API server holds it."""
        meta = obj["metadata"]
        return cls(obj["kind"], meta["namespace"], meta["name"], meta["uid"])

    @property
    def full_name(self) -> str:
        """namespace/name."""
        return f"{self.namespace}/{self.name}"

    def labels(self, component: str) -> dict[str, str]:
        """Labels of every child and pod of this owner."""
        return {
            "app.kubernetes.io/name": component,
            "app.kubernetes.io/instance": self.name,
            MANAGED_BY: MANAGER,
            KIND_LABEL: self.kind,
            NAME_LABEL: self.name,
            UID_LABEL: self.uid,
        }

    def selector(self) -> dict[str, str]:
        """What selects the pods of this owner, and only of this uid."""
        return {NAME_LABEL: self.name, UID_LABEL: self.uid}

    def metadata(self, name: str, component: str) -> dict[str, Any]:
        """metadata of a child."""
        return {"name": name, "labels": self.labels(component)}
