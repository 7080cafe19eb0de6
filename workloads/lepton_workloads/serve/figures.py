"""How good the version was when it was trained: what the page shows of `metrics.json`, read with care.

Versions made by own code may have no such file, or another one: then there are no figures, and all else works.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from lepton_workloads.contract.artifact import METRICS_FILE
from lepton_workloads.logs import Log

MAX_BYTES = 8 * 1024**2
"""The matrix of 1,000 classes takes some 2 MiB."""
NAMES = ("accuracy", "topKAccuracy", "topK", "precision", "recall", "f1", "samples")
"""Of the test split."""

log = Log(__name__)


@dataclass(frozen=True, slots=True)
class Figures:
    """What is told of the training."""

    content: dict[str, Any]
    """Figures of the test split by name, and `classPrecision`, None where a class was never predicted."""


def read_figures(folder: Path, classes: int) -> Figures | None:
    """The figures of the version in a folder; None where it has none."""
    file = folder / METRICS_FILE
    try:
        if not file.exists():
            return None
        if file.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES} bytes")
        test = _dictionary(_dictionary(orjson.loads(file.read_bytes())).get("test"))
    except (OSError, ValueError) as error:
        log.warning("Showed no figures of the training", file=METRICS_FILE, error=error)
        return None
    content: dict[str, Any] = {name: test[name] for name in NAMES if _is_number(test.get(name))}
    per_class = test.get("perClass")
    if isinstance(per_class, list) and len(per_class) == classes:
        found = [_dictionary(one).get("precision") for one in per_class]
        content["classPrecision"] = [value if _is_number(value) else None for value in found]
    return Figures(content) if content else None


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
