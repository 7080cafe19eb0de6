"""What the servers see of drift: one condition, the figures of the pod that sees most, an Event when it changes.

Reports are pulled only where drift is watched. They are lost when the operator starts anew, and pods come and go: while
a pod has not been heard, the last verdict stands. Figures change with every picture, so they are written only with a
new verdict, or when the old ones are ten minutes old.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lepton_operator.actions import Emit, Pull
from lepton_operator.api.model import ModelSpec
from lepton_operator.conditions import Extra, conditions_by_type, printable, seconds, timestamp
from lepton_operator.context import Context
from lepton_operator.decide.common import pulls_of
from lepton_operator.desired.owner import VERSION_LABEL
from lepton_operator.facts import Json, Observed
from lepton_workloads.contract.outcome import DriftFigures
from lepton_workloads.contract.serving import Drift

DRIFT_DETECTED = "DriftDetected"
NOT_WATCHED = "NotWatched"
TOO_FEW_SAMPLES = "TooFewSamples"
NO_DRIFT = "NoDrift"
NO_REFERENCE = "NoReference"

FIGURES_SECONDS = 600.0
"""How long figures stand at least while the verdict stays."""
JITTER = 0.2
"""By at most this share the looks at a model are further apart, so that not all come at once."""
MOST_NAMED = 5
"""So many figures a message names."""
ANY = -1.0
"""Below every index."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What the watch adds to a model's plan."""

    extra: Extra
    fields: dict[str, Any]
    pulls: tuple[Pull, ...] = ()
    requeue_after: float | None = None
    events: tuple[Emit, ...] = ()


@dataclass(frozen=True, slots=True)
class _Seen:
    """Figures of one pod."""

    pod: str
    figures: DriftFigures

    @property
    def largest(self) -> float:
        return max(self.figures.indexes.values(), default=0.0)

    def to_status(self) -> dict[str, Any]:
        indexes = {name: round(value, 4) for name, value in sorted(self.figures.indexes.items())}
        told: dict[str, Any] = {"pod": self.pod, "samples": self.figures.samples}
        return told | ({"indexes": indexes, "largest": round(self.largest, 4)} if indexes else {})


def watch(observed: Observed, spec: ModelSpec, version: str, context: Context, now: float) -> Watched:
    """The verdict on the pods of a version that answer."""
    obj = observed.object
    if spec.drift is None:
        return _told(obj, Extra(DRIFT_DETECTED, False, NOT_WATCHED, "spec.drift is not set"))
    pods = [pod for pod in observed.pods if _answers(pod, version)]
    pulls = pulls_of(pods, context.drift_interval_seconds)
    due = _interval(obj, context) if pulls else None
    extra, worst = _verdict(observed, spec.drift, pods, version)
    if extra is None:
        return _told(obj, _held(obj), _figures(obj), pulls, due)
    if worst is None:
        return _told(obj, extra, None, pulls, due)
    before, told = _figures(obj) or {}, worst.to_status()
    row = conditions_by_type(obj).get(DRIFT_DETECTED, {})
    same_verdict = (row.get("status"), row.get("reason")) == (str(extra.holds), extra.reason)
    if same_verdict and before:
        since = before["updateTime"]
        if told | {"updateTime": since} == before or now - seconds(since) < FIGURES_SECONDS:
            return _told(obj, _held(obj), before, pulls, due)
    return _told(obj, extra, told | {"updateTime": timestamp(now)}, pulls, due)


def unknown() -> Extra:
    """Of a model whose spec can't be read."""
    return Extra(DRIFT_DETECTED, False, NOT_WATCHED, "the spec can't be read")


def _verdict(
    observed: Observed, drift: Drift, pods: Sequence[Json], version: str
) -> tuple[Extra | None, _Seen | None]:
    """What to say, and the pod that sees most; no Extra: what was said stands."""
    reports = {
        pod["metadata"]["name"]: report
        for pod in pods
        if (report := observed.reports.get(pod["metadata"]["uid"]))
        and report.owner_uid == observed.object["metadata"]["uid"]
    }
    seen = [_Seen(name, report.drift) for name, report in sorted(reports.items()) if report.drift is not None]
    full = [one for one in seen if one.figures.samples >= drift.window or one.figures.drifting]
    worst = max(
        full or seen, key=lambda one: (one.figures.drifting, one.largest, one.figures.samples), default=None
    )
    if worst is not None and worst.figures.drifting:
        return Extra(DRIFT_DETECTED, True, DRIFT_DETECTED, _drifting(worst, drift)), worst
    if len(reports) < max(1, len(pods)) and _was_judged(observed.object, version):
        return None, None
    if not reports:
        text = "no pod has told anything yet" if pods else "no pod of the wanted version answers"
        return Extra(DRIFT_DETECTED, False, TOO_FEW_SAMPLES, text), None
    if worst is None:
        text = (
            f"the servers of version {version} have nothing to compare with: a version that can be watched holds "
            "reference.json"
        )
        return Extra(DRIFT_DETECTED, False, NO_REFERENCE, text), None
    if not full:
        text = (
            f"pod {worst.pod} has seen {worst.figures.samples} of the {drift.window} predictions of a window"
        )
        return Extra(DRIFT_DETECTED, False, TOO_FEW_SAMPLES, text), worst
    largest = _named(worst, ANY, 1) or "none"
    text = f"the largest index is {largest} (pod {worst.pod}); above {drift.threshold:g} it would be drift"
    return Extra(DRIFT_DETECTED, False, NO_DRIFT, text), worst


def _was_judged(obj: Json, version: str) -> bool:
    """Pods of this version have told before, and there should be some."""
    same_version = (obj.get("status") or {}).get("version") == version
    reason = conditions_by_type(obj).get(DRIFT_DETECTED, {}).get("reason")
    told = _figures(obj) is not None or reason == NO_REFERENCE
    return same_version and told and obj["spec"].get("replicas") != 0


def _drifting(seen: _Seen, drift: Drift) -> str:
    """Once raised it lasts until all indexes are below half of the threshold."""
    named = _named(seen, drift.threshold) or _named(seen, drift.threshold / 2) or _named(seen, ANY, 1)
    return (
        f"pod {seen.pod}: {named or 'no index'} (population stability index of {seen.figures.samples} predictions, "
        f"threshold {drift.threshold:g}): what the model sees or answers is not like in its training any more: look "
        "at what is sent, or train on newer pictures"
    )


def _named(seen: _Seen, above: float, most: int = MOST_NAMED) -> str:
    """`brightness 0.31, predicted 0.25`, the largest first."""
    rows = sorted(seen.figures.indexes.items(), key=lambda row: (-row[1], row[0]))
    return ", ".join(f"{name} {value:.3g}" for name, value in rows[:most] if value > above)


def _told(
    obj: Json,
    extra: Extra,
    figures: Json | None = None,
    pulls: tuple[Pull, ...] = (),
    due: float | None = None,
) -> Watched:
    before = conditions_by_type(obj).get(DRIFT_DETECTED, {}).get("status", "False")
    events: tuple[Emit, ...] = ()
    if before != str(extra.holds):
        kind = "Warning" if extra.holds else "Normal"
        events = (Emit(kind, extra.reason, printable(extra.message, 1000)),)
    return Watched(extra, {"drift": dict(figures)} if figures else {}, pulls, due, events)


def _held(obj: Json) -> Extra:
    """The condition as it is."""
    row = conditions_by_type(obj)[DRIFT_DETECTED]
    return Extra(DRIFT_DETECTED, row["status"] == "True", row["reason"], row["message"])


def _figures(obj: Json) -> Json | None:
    return (obj.get("status") or {}).get("drift")


def _answers(pod: Json, version: str) -> bool:
    if pod["metadata"]["labels"].get(VERSION_LABEL) != version or "deletionTimestamp" in pod["metadata"]:
        return False
    return conditions_by_type(pod).get("Ready", {}).get("status") == "True"


def _interval(obj: Json, context: Context) -> float:
    """Each model has its own, for ever: chance would make a decision another one at each try."""
    share = zlib.crc32(obj["metadata"]["uid"].encode()) / 2**32
    return context.drift_interval_seconds * (1 + JITTER * share)
