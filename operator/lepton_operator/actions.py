"""What a decision asks for: actions as data, carried out by `apply.py` and nobody else."""

from dataclasses import dataclass, field
from typing import Any

from lepton_operator.desired.autoscaler import ReplicaRange
from lepton_operator.facts import Json


@dataclass(frozen=True, slots=True)
class Create:
    """Create a child once (Jobs, claims); it is never re-applied. Owned unless `keep` is set."""

    manifest: Json
    keep: bool = False
    """True for the store's claim: no owner reference, outlives its objects, may exist already."""


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply, sent only when the live child does not contain the manifest."""

    manifest: Json
    autoscaled: ReplicaRange | None = None
    """Set when an autoscaler owns `spec.replicas`: the manifest has none, and the live number outlasts the change."""
    create: bool = True
    """False: a part of a child, such as its labels, that is applied only where the child is."""


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a child of ours, with its uid as precondition; pods follow in the background."""

    kind: str
    name: str
    uid: str


Action = Create | Apply | Delete


@dataclass(frozen=True, slots=True)
class Emit:
    """An Event on the Lepton object; emitted on transitions only."""

    type: str
    """Normal or Warning."""
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Pull:
    """Pull the report of a running pod (`GET /report` on the contract's REPORT_PORT)."""

    pod_uid: str
    pod_name: str
    pod_ip: str
    interval_seconds: float | None = None
    """Least time between two pulls; that of the settings unless it is set."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer of a decision for one object."""

    status: dict[str, Any]
    """The whole status as it should be (camelCase JSON)."""
    actions: tuple[Action, ...] = ()
    events: tuple[Emit, ...] = ()
    pulls: tuple[Pull, ...] = ()
    requeue_after: float | None = None
    """Seconds after which time alone may change the answer (deadlines, the next pull)."""
    again: bool = False
    """A status that was told makes a further step possible: the object is visited once more, at once."""
    urgent: bool = field(default=True)
    """False when the status differs only in figures: such writes may be gathered."""
