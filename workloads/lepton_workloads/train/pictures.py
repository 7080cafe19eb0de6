"""Pictures that lie in files: a selection of them as one array, and reading that leaves nothing behind in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

from lepton_workloads.contract.outcome import Failure
from lepton_workloads.termination import WorkloadError

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]

MAX_GAP = 64 * 1024
"""Bytes that are rather read and thrown away than left out by another call to the file system."""
MAX_READ = 8 * 1024**2
"""Bytes that one call asks for."""


@dataclass(frozen=True, eq=False)
class Selected:
    """Some rows of several arrays, one after the other, as if they were one array; nothing is copied before."""

    sources: "tuple[Pixels | Selected, ...]"
    """Each (N, height, width, channels)."""
    rows: Rows
    """Of the sources put one behind the other."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As that of an array."""
        return (len(self.rows), *self.sources[0].shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> Pixels:
        """A picture by number, or several by a slice or an array of numbers."""
        chosen = self.rows[key]
        wanted = np.atleast_1d(chosen)
        found = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        for source, here, rows in self.by_source(wanted):
            found[here] = source[rows]
        return found if np.ndim(chosen) else found.reshape(self.shape[1:])

    def by_source(self, wanted: Rows) -> "Iterator[tuple[Pixels | Selected, npt.NDArray[np.bool_], Rows]]":
        """For each source: where in `wanted` its pictures are, and its own numbers of them."""
        first = 0
        for source in self.sources:
            here = (wanted >= first) & (wanted < first + len(source))
            yield source, here, wanted[here] - first
            first += len(source)


def read_pictures(images: Pixels | Selected, rows: Rows) -> Pixels:
    """Copies of pictures by number, in that order.

    Files are read in few large pieces, and not through their memory map, whose pages would count as memory of the
    process for as long as it runs.

    Raises:
        WorkloadError: StorageFailed, when a file became shorter.
        OSError: the store.
    """
    if isinstance(images, Selected):
        found = np.empty((len(rows), *images.shape[1:]), np.uint8)
        for source, here, own in images.by_source(images.rows[rows]):
            found[here] = read_pictures(source, own)
        return found
    mapped: Any = images.base
    if not isinstance(images, np.memmap) or not isinstance(mapped, mmap):
        return images[rows]  # a part of a map doesn't know where it lies in the file
    found = np.empty((len(rows), *images.shape[1:]), np.uint8)
    record = int(np.prod(images.shape[1:]))
    places = np.argsort(rows, kind="stable")
    ascending = rows[places]
    with open(str(images.filename), "rb", buffering=0) as file:
        for start, stop in pieces(ascending, record):
            first = ascending[start]
            count = int(ascending[stop - 1] - first) + 1
            file.seek(images.offset + int(first) * record)
            block = np.fromfile(file, np.uint8, count * record)
            if len(block) != count * record:
                text = "a file of the prepared dataset became shorter while it was read"
                raise WorkloadError(Failure.STORAGE_FAILED, text, terminal=False)
            found[places[start:stop]] = block.reshape(count, *images.shape[1:])[ascending[start:stop] - first]
    return found


def pieces(ascending: Rows, record: int) -> Iterator[tuple[int, int]]:
    """Ranges of positions in ascending row numbers that one read each brings."""
    gaps = np.flatnonzero(np.diff(ascending) * record > MAX_GAP + record) + 1
    most = max(MAX_READ // record, 1)
    for start, stop in zip([0, *gaps], [*gaps, len(ascending)], strict=True):
        while start < stop:
            end = int(np.searchsorted(ascending[start:stop], ascending[start] + most)) + start
            yield start, end
            start = end
