"""The plan of a preparation: the dataset's key, and which picture goes where.

It lies in the job's temporary folder as `plan.json` (a `Plan`) and `plan.items` (a JSON array a line), so
that the other indexes read only their share of it.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lepton_workloads.contract.base import Record
from lepton_workloads.contract.data import DatasetManifest, SplitName
from lepton_workloads.contract.tasks import PrepareTask
from lepton_workloads.decode import DECODER
from lepton_workloads.prepare.sources import Source
from lepton_workloads.split import assign_splits
from lepton_workloads.storage import sync, write_file

PLAN_FILE = "plan.json"
ITEMS_FILE = "plan.items"


class Plan(Record):
    """What every index must know; written after the items, so where it is, they are."""

    key: str
    labels: list[str]
    total: int
    parallelism: int
    reused: bool = False


class PlannedItem(NamedTuple):
    """A picture with its class, its split and the sha256 of its raw bytes (empty: unreadable)."""

    name: str
    label: int
    split: SplitName
    digest: str


def hash_inputs(source: Source, progress: Callable[[int], None]) -> list[str]:
    """sha256 of every raw picture, in the order of the items; reads all of the source once."""
    digests = []
    for done, item in enumerate(source.items, start=1):
        digests.append(source.digest(item.name))
        progress(done)
    return digests


def dataset_key(task: PrepareTask, source: Source, digests: Sequence[str]) -> str:
    """Content address: sha256 (hex) of what determines the bytes, and of nothing else.

    Limits, parallelism and the place of the source don't count; two datasets of equal content share a copy.
    """
    inputs = hashlib.sha256()
    for item, digest in zip(source.items, digests, strict=True):
        inputs.update(json.dumps([item.name, item.label, digest]).encode() + b"\n")
    parts = {
        "manifest": DatasetManifest.model_fields["version"].default,
        "builtin": task.builtin,
        "picture": task.picture.to_json_dict(),
        "normalization": task.normalization.to_json_dict(),
        "split": task.split.to_json_dict(),
        "decoder": DECODER,
        "labels": source.labels,
        "inputs": inputs.hexdigest(),
    }
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def write_plan(folder: Path, plan: Plan, source: Source, digests: Sequence[str], task: PrepareTask) -> None:
    """Draw the splits and write the plan; `plan.json` appears last."""
    names = [item.name for item in source.items]
    splits = assign_splits(names, [item.label for item in source.items], task.split)
    with (folder / ITEMS_FILE).open("w", encoding="utf-8") as file:
        for item, split, digest in zip(source.items, splits, digests, strict=True):
            file.write(json.dumps([item.name, item.label, split, digest]) + "\n")
    sync(folder / ITEMS_FILE)
    write_file(folder / PLAN_FILE, plan.to_json())


def read_plan(folder: Path) -> Plan | None:
    """The plan, or None while index 0 hasn't written it."""
    try:
        return Plan.model_validate_json((folder / PLAN_FILE).read_bytes())
    except FileNotFoundError:
        return None


def share(total: int, index: int, parallelism: int) -> tuple[int, int]:
    """Positions [start, stop) of an index's share: shares are contiguous and differ by one at most."""
    return total * index // parallelism, total * (index + 1) // parallelism


def read_items(folder: Path, start: int, stop: int) -> Iterator[PlannedItem]:
    """The plan's items from position `start` to `stop`."""
    with (folder / ITEMS_FILE).open(encoding="utf-8") as file:
        for line in itertools.islice(file, start, stop):
            name, label, split, digest = json.loads(line)
            yield PlannedItem(name, label, SplitName(split), digest)
