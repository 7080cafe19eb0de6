"""Warning Events of the last hour, bounded, found again by the object they are about.

They come before or after the object itself, so all of the known reasons are kept, newest last, and
matched to our objects when a decision is made.
"""

from collections import OrderedDict
from collections.abc import Callable, Container
from datetime import datetime
from typing import Any

from lepton_operator import metrics
from lepton_operator.facts import Json, WarningFact
from lepton_operator.resources import EVENT

REASONS = frozenset(
    (
        "FailedCreate",
        "FailedMount",
        "FailedAttachVolume",
        "FailedScheduling",
        "ProvisioningFailed",
        "FailedCreatePodSandBox",
        "Failed",
        "FailedToRetrieveImagePullSecret",
        "Unhealthy",
    )
)
"""Reasons that explain why something of ours doesn't start."""

KINDS = frozenset(("Pod", "Job", "ReplicaSet", "Deployment", "PersistentVolumeClaim"))

MAX_OBJECTS = 2000
MAX_PER_OBJECT = 8

Subject = tuple[str, str, str]
"""namespace, kind, name; for a ReplicaSet the name of its Deployment."""


class WarningLog:
    """The sink of the watch on Events."""

    def __init__(self, on_warning: Callable[[Subject], None]) -> None:
        self._on_warning = on_warning
        self._subjects: OrderedDict[Subject, dict[str, tuple[WarningFact, str]]] = OrderedDict()
        metrics.count_cached(EVENT.qualified, self._subjects.__len__)

    def upsert(self, raw: Json) -> bool:
        """Keep the newest Warning of each reason, and of each probe."""
        subject = _subject(raw)
        if subject is None:
            return False
        fact = _fact(raw)
        about = _about(fact)
        held = self._subjects.setdefault(subject, {})
        before = held.get(about)
        if before is not None and before[0].timestamp > fact.timestamp:
            return False
        held[about] = (fact, str(raw["involvedObject"].get("uid") or ""))
        if len(held) > MAX_PER_OBJECT:
            del held[min(held, key=lambda one: held[one][0].timestamp)]
        self._subjects.move_to_end(subject)
        if len(self._subjects) > MAX_OBJECTS:
            self._subjects.popitem(last=False)
        if before is None or before[0] != fact:
            self._on_warning(subject)
        return True

    def remove(self, raw: Json) -> bool:
        """Events expire after an hour; what they said is dropped with them."""
        subject = _subject(raw)
        held = self._subjects.get(subject) if subject is not None else None
        if subject is None or held is None:
            return False
        fact = _fact(raw)
        about = _about(fact)
        before = held.get(about)
        if before is None or before[0].timestamp > fact.timestamp:
            return False
        del held[about]
        if not held:
            del self._subjects[subject]
        return True

    def retain(self, listed: Container[str], version: int, namespace: str | None = None) -> None:
        """Nothing goes: what is held and not listed has expired or will soon be pushed out."""

    def about(self, namespace: str, kind: str, name: str, uid: str | None, since: float) -> list[WarningFact]:
        """Warnings about an object, none from before `since` or about another uid of the same name."""
        held = self._subjects.get((namespace, kind, name), {})
        return [
            fact
            for fact, about_uid in held.values()
            if fact.timestamp >= since and (uid is None or not about_uid or about_uid == uid)
        ]


def _subject(raw: Json) -> Subject | None:
    """Whom the Event is about, None when it doesn't concern us."""
    about = raw.get("involvedObject") or {}
    kind, name = about.get("kind"), about.get("name")
    if raw.get("type") != "Warning" or raw.get("reason") not in REASONS or kind not in KINDS or not name:
        return None
    if kind == "ReplicaSet":
        name = name.rsplit("-", 1)[0]
    return about.get("namespace") or raw["metadata"].get("namespace", ""), kind, name


def _about(fact: WarningFact) -> str:
    """The reason; for Unhealthy with the probe's kind, since a failing readiness probe would hide the others."""
    return f"{fact.reason} {fact.message.split(' ', 1)[0]}" if fact.reason == "Unhealthy" else fact.reason


def _fact(raw: Json) -> WarningFact:
    about: dict[str, Any] = raw["involvedObject"]
    series = raw.get("series") or {}
    text = (
        series.get("lastObservedTime")
        or raw.get("lastTimestamp")
        or raw.get("eventTime")
        or raw["metadata"].get("creationTimestamp")
    )
    return WarningFact(
        kind=about["kind"],
        name=about["name"],
        reason=raw["reason"],
        message=str(raw.get("message") or "")[:1024],
        timestamp=parse_time(text),
    )


def parse_time(text: str | None) -> float:
    """Seconds since the epoch of an RFC 3339 time; 0 when it is missing."""
    try:
        return datetime.fromisoformat(text).timestamp() if text else 0.0
    except ValueError:
        return 0.0
