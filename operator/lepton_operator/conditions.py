"""Facts -> conditions, recomputed from scratch each time; only `lastTransitionTime` remembers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from lepton_operator.actions import Emit
from lepton_operator.facts import Json

READY = "Ready"
SUCCEEDED = "Succeeded"
AVAILABLE = "Available"
RECONCILING = "Reconciling"
STALLED = "Stalled"

MAIN_CONDITIONS = (READY, SUCCEEDED)
"""A kind has one of them; its reason is the one that `kubectl get` shows."""

STARTUP_DEADLINE_EXCEEDED = "StartupDeadlineExceeded"


class State(Enum):
    """Where an object stands, as kstatus would say it."""

    DONE = "done"
    """What is wanted is there."""
    PROGRESSING = "progressing"
    """Work goes on as it should, for as long as it takes."""
    STARTING = "starting"
    """Nothing is wrong yet; Stalled when it isn't done by the startup deadline."""
    WAITING = "waiting"
    """Something is wrong that may cure itself; Stalled after the startup deadline."""
    STALLED = "stalled"
    """A person must act; un-stalls when cured."""
    FAILED = "failed"
    """Ended for good."""

    @property
    def has_deadline(self) -> bool:
        """True when it must not last longer than the startup deadline."""
        return self in (State.STARTING, State.WAITING)

    @property
    def is_stalled(self) -> bool:
        """True when nothing goes on by itself, and what is wanted isn't there."""
        return self in (State.STALLED, State.FAILED)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The whole state in three words."""

    state: State
    reason: str
    message: str
    trouble: bool = False
    """Work goes on, but something went wrong that a person may want to know."""


@dataclass(frozen=True, slots=True)
class Extra:
    """A condition beside the three that every kind has."""

    type: str
    holds: bool
    reason: str
    message: str


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC, whole seconds, as Kubernetes writes it."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def build_conditions(
    obj: Json, main: str, verdict: Verdict, now: float, extras: Sequence[Extra] = ()
) -> list[dict[str, Any]]:
    """All conditions of an object; `main` is Ready or Succeeded."""
    state = verdict.state
    active = state is State.PROGRESSING or state.has_deadline
    stalled = state.is_stalled
    if state is State.DONE:
        main_status = "True"
    else:
        main_status = "Unknown" if main == SUCCEEDED and state is not State.FAILED else "False"
    wanted = [
        (main, main_status, verdict.reason, verdict.message),
        *((extra.type, str(extra.holds), extra.reason, extra.message) for extra in extras),
        (RECONCILING, str(active), verdict.reason, verdict.message if active else ""),
        (STALLED, str(stalled), verdict.reason, verdict.message if stalled else ""),
    ]
    before = conditions_by_type(obj)
    generation = obj["metadata"].get("generation", 1)
    return [_condition(before.get(row[0]), row, generation, now) for row in wanted]


def _condition(
    before: Mapping[str, Any] | None, row: tuple[str, str, str, str], generation: int, now: float
) -> dict[str, Any]:
    kind, status, reason, message = row
    flipped = before is None or before.get("status") != status
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": printable(message, 4096),
        "lastTransitionTime": timestamp(now) if flipped or not before else before["lastTransitionTime"],
        "observedGeneration": generation,
    }


def printable(text: str, most: int) -> str:
    """At most so many characters; what pods say may hold bytes that steer a terminal."""
    text = text[:most]
    return text if text.isprintable() else "".join(one if one.isprintable() else " " for one in text)


def conditions_by_type(obj: Json) -> dict[str, Mapping[str, Any]]:
    """The conditions an object has, by type."""
    return {condition["type"]: condition for condition in (obj.get("status") or {}).get("conditions") or ()}


def is_true(obj: Json, kind: str) -> bool:
    """True when the condition holds for the present generation of the spec."""
    condition = conditions_by_type(obj).get(kind, {})
    return condition.get("status") == "True" and condition.get("observedGeneration") == obj["metadata"].get(
        "generation"
    )


def stall_after(verdict: Verdict, since: float, deadline: float, now: float) -> tuple[Verdict, float | None]:
    """A waiting verdict becomes stalled `deadline` seconds after `since`; else the seconds until then."""
    if not verdict.state.has_deadline:
        return verdict, None
    left = since + deadline - now
    if left > 0:
        return verdict, left
    reason = STARTUP_DEADLINE_EXCEEDED if verdict.state is State.STARTING else verdict.reason
    message = f"{verdict.message} (for more than {int(deadline)} s)"
    return replace(verdict, state=State.STALLED, reason=reason, message=message), None


def transition_event(obj: Json, main: str, verdict: Verdict) -> tuple[Emit, ...]:
    """One Event when the main condition's reason or the stalling changes; the conditions carry the truth."""
    before = conditions_by_type(obj)
    same_reason = before.get(main, {}).get("reason") == verdict.reason
    same_stall = before.get(STALLED, {}).get("status") == str(verdict.state.is_stalled)
    if same_reason and same_stall:
        return ()
    well = verdict.state in (State.DONE, State.PROGRESSING, State.STARTING) and not verdict.trouble
    kind = "Normal" if well else "Warning"
    return (Emit(kind, verdict.reason, printable(verdict.message, 1000)),)
