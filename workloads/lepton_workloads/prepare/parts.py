"""One index's share of the pictures, decoded and streamed into its part files."""

import contextlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError

from lepton_workloads.contract.base import Record
from lepton_workloads.contract.data import InvalidFile, SplitName
from lepton_workloads.decode import DecodeError, Pixels
from lepton_workloads.prepare.plan import PlannedItem
from lepton_workloads.storage import sync, write_file
from lepton_workloads.termination import printable

KINDS = ("images", "labels", "files")
"""Data files of a split, see `contract.data`."""
MAX_EXAMPLES = 20


class Part(Record):
    """`part-<index>.json`: written when the part's data files are complete."""

    key: str
    index: int
    parallelism: int
    token: str = Field(
        description="Of the data files' names: a lost pod may still write beside its successor."
    )
    per_class: dict[SplitName, list[int]]
    invalid_files: int = 0
    invalid_examples: list[InvalidFile] = Field(default_factory=list)


def data_file(folder: Path, split: SplitName, kind: str) -> Path:
    """`<split>.<kind>` of the finished dataset."""
    return folder / f"{split}.{kind}"


def part_data_file(folder: Path, part: "Part", split: SplitName, kind: str) -> Path:
    """The same of one part."""
    return folder / f"part-{part.index}-{part.token}.{split}.{kind}"


def part_file(folder: Path, index: int) -> Path:
    """Where index says that its part is complete."""
    return folder / f"part-{index}.json"


def read_part(folder: Path, index: int, key: str, parallelism: int) -> Part | None:
    """A complete part that belongs to this plan, or None; an earlier try may have had another key."""
    try:
        part = Part.model_validate_json(part_file(folder, index).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    fits = (part.key, part.index, part.parallelism) == (key, index, parallelism)
    return part if fits else None


def write_part(
    folder: Path,
    part: Part,
    items: Iterable[PlannedItem],
    decode: Callable[[PlannedItem], Pixels],
    progress: Callable[[int], None],
) -> Part:
    """Decode `items` into the part files of `part.index`; one picture is in memory at a time.

    Args:
        part: the empty part, `per_class` holding zeros for every class of every split.
        decode: pixels of an item, or a DecodeError, which sets the file aside.
        progress: called with the number of pictures that are done.
    """
    per_class = {split: list(counts) for split, counts in part.per_class.items()}
    invalid: list[InvalidFile] = []
    invalid_files = 0
    with contextlib.ExitStack() as stack:
        files = {
            (split, kind): stack.enter_context(part_data_file(folder, part, split, kind).open("wb"))
            for split in SplitName
            for kind in KINDS
        }
        for done, item in enumerate(items, start=1):
            try:
                pixels = decode(item)
            except DecodeError as error:
                invalid_files += 1
                if len(invalid) < MAX_EXAMPLES:
                    invalid.append(InvalidFile(path=printable(item.name), error=printable(str(error), 300)))
            else:
                files[item.split, "images"].write(pixels.tobytes())
                files[item.split, "labels"].write(np.array(item.label, "<i4").tobytes())
                files[item.split, "files"].write(json.dumps(item.name).encode() + b"\n")
                per_class[item.split][item.label] += 1
            progress(done)
    for split in SplitName:
        for kind in KINDS:
            sync(part_data_file(folder, part, split, kind))
    finished = part.model_copy(
        update={"per_class": per_class, "invalid_files": invalid_files, "invalid_examples": invalid}
    )
    write_file(part_file(folder, part.index), finished.to_json())
    return finished
