"""What a decision may know: one frozen `Observed` per reconcile, read once by `observe.py`.

Objects are plain JSON dictionaries as the API server holds them (slimmed: no managedFields), never
changed in place. Decisions read them through small functions, so no client library reaches them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lepton_workloads.contract.outcome import Report

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Key:
    """Names one Lepton object; the key of the work queue."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class WarningFact:
    """A Warning Event about a child: explains what the state already shows, never decides alone."""

    kind: str
    name: str
    reason: str
    message: str
    timestamp: float
    """Seconds since the epoch of its last occurrence."""


@dataclass(frozen=True, slots=True)
class NameHolder:
    """Who holds a child's name that isn't in our caches, found by one live read."""

    uid: str
    controller_uid: str | None
    controller: str | None
    """kind/name of the controlling owner."""
    deleting: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """The last write of a child that the API server (or `apply.py`'s own check) refused."""

    kind: str
    name: str
    reason: str
    """One of the fault vocabulary: AdmissionDenied, QuotaExceeded, NameConflict, WaitingForDeletion, Forbidden."""
    message: str


@dataclass(frozen=True, slots=True)
class Observed:
    """The world around one object."""

    object: Json
    """The Lepton object itself: metadata, spec (with the schema's defaults), status."""
    children: Mapping[tuple[str, str], Json] = field(default_factory=dict)
    """Owned by this uid: (kind, name) -> object, for example ("Job", "digits-train-a1")."""
    pods: tuple[Json, ...] = ()
    """All pods of this owner uid, by name."""
    warnings: tuple[WarningFact, ...] = ()
    """Newest first; about children, their ReplicaSets, pods and claims."""
    reports: Mapping[str, Report] = field(default_factory=dict)
    """pod uid -> last report pulled from it."""
    claims: Mapping[str, Json | None] = field(default_factory=dict)
    """claim name -> PersistentVolumeClaim, or None when it does not exist; only the names decisions asked for."""
    dataset: Json | None = None
    """The LeptonDataset that a training job names."""
    training_job: Json | None = None
    """The LeptonTrainingJob that a model names, or whose version a training job begins with."""
    refusals: tuple[Refusal, ...] = ()
    """Writes of the previous reconcile that were refused and have not succeeded since."""
