"""One row of a state table: a situation, the facts that make it, and what an object then says of itself."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from lepton_operator.conditions import AVAILABLE, RECONCILING, STALLED, STARTUP_DEADLINE_EXCEEDED, timestamp
from lepton_operator.decide.drift import DRIFT_DETECTED
from lepton_operator.facts import Observed
from tests.unit.builders import NOW, TYPES, decide, written

Obj = dict[str, Any]


class Stand(Enum):
    """How an object stands: (Reconciling, Stalled, kstatus, health in Argo CD, what it means)."""

    UNSEEN = ("", "", "InProgress", "Progressing", "not visited yet")
    GOING = ("True", "False", "InProgress", "Progressing", "work goes on, for as long as it takes")
    STARTING = ("True", "False", "InProgress", "Progressing", "nothing is wrong; there is a deadline")
    WAITING = ("True", "False", "InProgress", "Progressing", "wrong, may cure itself; there is a deadline")
    STALLED = ("False", "True", "Failed", "Degraded", "a person must act; once cured, it goes on")
    ENDED = ("False", "True", "Failed", "Degraded", "ended for good")
    DONE = ("False", "False", "Current", "Healthy", "what is wanted is there")

    @property
    def has_deadline(self) -> bool:
        """True when it is Stalled after the startup deadline."""
        return self in (Stand.STARTING, Stand.WAITING)

    @property
    def kstatus(self) -> str:
        """What kstatus says of it."""
        return self.value[2]

    @property
    def health(self) -> str:
        """What Argo CD says of it."""
        return self.value[3]


class Since(Enum):
    """What happened to the object since the operator's last visit."""

    NOTHING = "nothing"
    NEW_SPEC = "new spec"
    DELETION = "deletion"


@dataclass(frozen=True)
class Row:
    """Facts and what they mean; `available` and `drift` are status and reason of conditions of a model."""

    situation: str
    stand: Stand
    reason: str
    facts: Observed
    available: tuple[str, str] = ("False", "NoPodReady")
    drift: tuple[str, str] = ("False", "NotWatched")
    now: float = NOW
    since: Since = Since.NOTHING

    @property
    def kind(self) -> str:
        """Kind of the object."""
        return str(self.facts.object["kind"])

    @property
    def name(self) -> str:
        """Names the row among all of all kinds."""
        return f"{self.kind}: {self.situation}"

    @property
    def main(self) -> str:
        """Type of the condition that says whether what is wanted is there."""
        return TYPES[self.kind][0]

    @property
    def kstatus(self) -> str:
        """What kstatus says of the object."""
        if self.since is Since.DELETION:
            return "Terminating"
        return "InProgress" if self.since is Since.NEW_SPEC else self.stand.kstatus

    @property
    def health(self) -> str:
        """What Argo CD says of the object; it has a word of its own for what rests because somebody wants it to."""
        if self.reason == "Suspended" and self.since is Since.NOTHING:
            return "Suspended"
        return self.stand.health if self.since is Since.NOTHING else "Progressing"

    def conditions(self) -> list[tuple[str, str, str]]:
        """(type, status, reason) of all conditions that the object should have, in their order."""
        if self.stand is Stand.UNSEEN:
            return []
        reconciling, stalled = self.stand.value[:2]
        rows = [(self.main, self._main_status(), self.reason)]
        if AVAILABLE in TYPES[self.kind]:
            rows += [(AVAILABLE, *self.available), (DRIFT_DETECTED, *self.drift)]
        return [*rows, (RECONCILING, reconciling, self.reason), (STALLED, stalled, self.reason)]

    def _main_status(self) -> str:
        if self.stand is Stand.DONE:
            return "True"
        open_ended = self.main == "Succeeded" and self.stand is not Stand.ENDED
        return "Unknown" if open_ended else "False"

    def recorded(self) -> Obj:
        """The whole object as the API server holds it in this situation."""
        obj = dict(self.facts.object)
        if self.stand is not Stand.UNSEEN:
            obj["status"] = decide(self.facts, self.now).status
        metadata = dict(obj["metadata"])
        if self.since is Since.NEW_SPEC:
            metadata["generation"] += 1
        if self.since is Since.DELETION:
            metadata |= {"deletionTimestamp": timestamp(self.now), "finalizers": ["example.org/kept"]}
        return obj | {"metadata": metadata}

    def message(self) -> str:
        """What the main condition says; empty before the first visit."""
        rows: list[Mapping[str, Any]] = (self.recorded().get("status") or {}).get("conditions") or []
        return str(rows[0]["message"]) if rows else ""


def late(row: Row) -> Row:
    """The same a moment after the startup deadline."""
    facts = written(row.facts, decide(row.facts, row.now))
    deadline = facts.object["spec"]["startupDeadlineSeconds"]
    return replace(
        row,
        situation=f"{row.situation}, for longer than startupDeadlineSeconds",
        stand=Stand.STALLED,
        reason=STARTUP_DEADLINE_EXCEEDED if row.stand is Stand.STARTING else row.reason,
        facts=facts,
        now=row.now + deadline + 1,
    )


def edited(row: Row) -> Row:
    """The same after an edit of the spec that the operator has not seen."""
    return replace(
        row, situation=f"{row.situation}; then its spec was changed, not seen yet", since=Since.NEW_SPEC
    )


def deleted(row: Row) -> Row:
    """The same while somebody's finalizer keeps the object that was deleted."""
    return replace(
        row,
        situation=f"{row.situation}; then it was deleted, somebody's finalizer keeps it",
        since=Since.DELETION,
    )


def with_late(rows: Iterable[Row]) -> list[Row]:
    """All rows, and after each one that has a deadline the same after it."""
    found = []
    for row in rows:
        found += [row, late(row)] if row.stand.has_deadline else [row]
    return found
