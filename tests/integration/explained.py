"""Does a status explain its object: all conditions there, of this spec, not contradicting each other, in words."""

import json
import re
from collections.abc import Iterator

from tests.integration.kube import Object, conditions
from tests.states.vocabulary import all_reasons
from tests.unit.builders import TYPES

REASONS = all_reasons()
MAX_STATUS = 64 * 1024


def unexplained(obj: Object) -> Iterator[str]:
    """What is missing; empty for an object whose present spec is explained."""
    rows = conditions(obj)
    status = obj.get("status") or {}
    generation = obj["metadata"]["generation"]
    what = f"{obj['kind']} {obj['metadata']['name']}"
    if status.get("observedGeneration") != generation:
        yield f"{what}: generation {generation} is not observed: {status.get('observedGeneration')}"
    if sorted(rows) != sorted(TYPES[obj["kind"]]):
        yield f"{what}: its conditions are {sorted(rows)}"
        return
    yield from (f"{what}: {problem}" for problem in contradictions(obj))
    for row in rows.values():
        if row["observedGeneration"] != generation:
            yield f"{what}: {row['type']} is of generation {row['observedGeneration']}"


def contradictions(obj: Object) -> Iterator[str]:
    """What may never be seen, not even in passing."""
    rows = conditions(obj)
    main = rows["Succeeded" if obj["kind"] == "LeptonTrainingJob" else "Ready"]
    states = [
        main["status"] == "True",
        *(rows[name]["status"] == "True" for name in ("Reconciling", "Stalled")),
    ]
    if sum(states) != 1:
        yield f"not exactly one of {main['type']}, Reconciling and Stalled is True: {states}"
    for row in rows.values():
        if not re.fullmatch("[A-Z][A-Za-z]+", row["reason"]) or row["reason"] not in REASONS:
            yield f"{row['type']} has the reason {row['reason']!r}"
        if not row["message"] and (row["status"] == "True" or row["type"] in (main["type"], "Available")):
            yield f"{row['type']} has no message"
    if "the spec can't be read" in main["message"]:
        yield f"the server took a spec that the operator can't read: {main['message']}"
    if (size := len(json.dumps(obj["status"]).encode())) >= MAX_STATUS:
        yield f"its status has {size} bytes"
