"""What a container said of its end: believed only as far as it fits."""

import re

from lepton_operator.facts import Json
from lepton_workloads.contract.outcome import Outcome, parse_outcome

REASON_PATTERN = re.compile(r"[A-Z][A-Za-z]{0,62}\Z")
"""What a container names itself is believed only as a word that fits a condition."""


def outcome_of(pod: Json, container: str) -> Outcome | None:
    """What the container said last: its termination message, if it is an outcome."""
    for status in pod.get("status", {}).get("containerStatuses", ()):
        if status["name"] == container:
            ended = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated")
            return believed_outcome((ended or {}).get("message"))
    return None


def believed_outcome(text: str | None) -> Outcome | None:
    """Pods are not trusted: a reason that doesn't fit a condition is none."""
    outcome = parse_outcome(text)
    if outcome and outcome.reason is not None and not REASON_PATTERN.match(outcome.reason):
        return None
    return outcome
