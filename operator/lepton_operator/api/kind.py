"""What makes a model a Kubernetes kind."""

from dataclasses import dataclass

from lepton_workloads.contract.base import Record

GROUP = "lepton.ai"
VERSION = "v1alpha1"

MAX_NAME = 40
"""Leaves room for every child's name and for labels (63)."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`; priority 1 shows with `-o wide` only."""

    name: str
    type: str
    json_path: str
    description: str
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """One custom resource."""

    name: str
    plural: str
    singular: str
    short: str
    description: str
    spec: type[Record]
    status: type[Record]
    columns: tuple[Column, ...]
    scalable: bool = False

    @property
    def api_version(self) -> str:
        """group/version, as in a manifest."""
        return f"{GROUP}/{VERSION}"


def condition_column(name: str, condition: str, field: str, description: str) -> Column:
    """A column that shows a field of one condition."""
    path = f'.status.conditions[?(@.type=="{condition}")].{field}'
    return Column(name, "string", path, description)


AGE = Column("Age", "date", ".metadata.creationTimestamp", "Time since creation.")
