"""Checkpoints: the state of a training, from which a later pod goes on.

A checkpoint is `a<attempt>/<name>.npz`, the arrays, and `a<attempt>/<name>.json`, a `Note`, which names the sha256 of
the arrays and is written last: without it there is no checkpoint. The chief alone writes. Names hold the pod's uid, so
that two pods of one attempt (a suspended Job goes on in the same one) never write the same file.
"""

import contextlib
import hashlib
import json
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from lepton_workloads.contract.base import Record
from lepton_workloads.contract.outcome import Digest, Epoch, Failure
from lepton_workloads.contract.tasks import CHECKPOINTS_DIR, POD_UID_ENV, TrainTask
from lepton_workloads.logs import Log
from lepton_workloads.paths import place
from lepton_workloads.storage import remove, sha256_of, storage_errors, sync, write_file
from lepton_workloads.termination import WorkloadError

Arrays = Mapping[str, npt.NDArray[Any]]
_NAME = re.compile("^a([0-9]{1,9})/e([0-9]{6,10})-s([0-9]{9,19})-([A-Za-z0-9-]{1,64})$")

log = Log(__name__)


class Sums(Record):
    """What the running epoch has summed up so far, over the whole gang."""

    loss: float = 0.0
    hits: float = 0.0
    pictures: int = 0
    seconds: float = 0.0


class Note(Record):
    """`<name>.json`: where the training stood, beside the arrays."""

    version: Literal[1] = 1
    fingerprint: str = Field(description="Of the spec and the data; another one's checkpoint is never used.")
    epoch: Annotated[int, Field(ge=0)] = Field(description="Finished epochs.")
    step: Annotated[int, Field(ge=0)] = Field(description="Steps done of the next epoch.")
    seed: int
    sums: Sums = Sums()
    history: list[Epoch]
    after_epoch: dict[str, dict[str, Any]] = Field(
        default={}, description="State of what watches the figures from epoch to epoch."
    )
    best_epoch: int | None = None
    finished: bool = Field(False, description="All epochs are done, or it stopped early.")
    stopped_early: bool = False
    weights_digest: Digest
    arrays_sha256: Digest | None = Field(None, description="Of the arrays' file.")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and checked."""

    name: str
    note: Note
    arrays: Arrays


class DamagedError(Exception):
    """A checkpoint that can't be used; the text says why."""


def fingerprint(task: TrainTask) -> str:
    """sha256 (hex) of all that decides what the numbers in a checkpoint mean."""
    parts = task.model_dump(
        mode="json", include={"network", "training", "dataset_key", "fold", "warm_start", "workers"}
    )
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Checkpoints:
    """The checkpoints of one task, as one pod of it sees them."""

    def __init__(self, task: TrainTask, pod: str | None = None) -> None:
        self.folder = place(CHECKPOINTS_DIR) / task.state_folder
        self.fingerprint = fingerprint(task)
        self._attempt = task.attempt
        self._keep = task.checkpoint.keep
        self._pod = re.sub("[^A-Za-z0-9-]", "-", pod or os.environ.get(POD_UID_ENV) or uuid.uuid4().hex)[:64]

    def newest(self) -> str:
        """The newest checkpoint that can be used, of this attempt or an earlier one; empty for none.

        Raises:
            WorkloadError: StorageFailed.
        """
        with storage_errors("read the checkpoints"):
            for name in sorted(self._names(), key=_age, reverse=True):
                try:
                    note = self._read(name)[0]
                except DamagedError as error:
                    log.warning("Skipped a checkpoint", checkpoint=name, why=str(error))
                    continue
                log.info("Chose a checkpoint", checkpoint=name, epoch=note.epoch, step=note.step)
                return name
        return ""

    def load(self, name: str) -> Checkpoint:
        """Exactly that checkpoint, checked.

        Raises:
            WorkloadError: StorageFailed, also when it is damaged or was removed: another try chooses anew.
        """
        if not _NAME.match(name):
            raise WorkloadError(Failure.INTERNAL_ERROR, f"{name!r} names no checkpoint", terminal=False)
        with storage_errors(f"read the checkpoint {name}"):
            try:
                note, content = self._read(name)
                with np.load(content, allow_pickle=False) as file:
                    return Checkpoint(name, note, {key: file[key] for key in file.files})
            except (DamagedError, BadZipFile, ValueError, KeyError) as error:
                text = f"the checkpoint {name} can't be used: {error}"
                raise WorkloadError(Failure.STORAGE_FAILED, text, terminal=False) from error

    def write(self, note: Note, arrays: Arrays) -> str:
        """Write a checkpoint whole or not at all, then remove those that are no longer kept; returns its name.

        Raises:
            WorkloadError: StorageFailed; earlier checkpoints are untouched then.
        """
        name = f"a{self._attempt}/e{note.epoch:06d}-s{note.step:09d}-{self._pod}"
        path = self.folder / f"{name}.npz"
        temporary = path.with_name(f".tmp-{path.name}")
        with storage_errors("write a checkpoint"):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as file:
                    np.savez(file, allow_pickle=False, **arrays)
                sync(temporary)
                digest = sha256_of(temporary)
                temporary.rename(path)
                note = note.model_copy(update={"arrays_sha256": digest})
                write_file(path.with_suffix(".json"), note.to_json())
            except BaseException:
                _remove_parts(temporary, path)
                raise
            self._prune()
        return name

    def remove_all(self) -> None:
        """Remove all checkpoints: the training is finished and its result is in the store."""
        for folder in self._attempts():
            remove(folder)

    def discard(self, name: str) -> None:
        """Remove one that is whole but does not fit the network, so that the next attempt takes another."""
        for suffix in (".json", ".npz"):
            (self.folder / f"{name}{suffix}").unlink(missing_ok=True)

    def _read(self, name: str) -> tuple[Note, Path]:
        """The note, and the file of the arrays, which has the digest that the note says.

        Raises:
            DamagedError: not whole, or of another spec.
            OSError: the store.
        """
        path = self.folder / f"{name}.npz"
        try:
            note = Note.model_validate_json(path.with_suffix(".json").read_bytes())
            found = sha256_of(path)
        except FileNotFoundError as error:
            raise DamagedError(f"{Path(error.filename).name} is missing") from error
        except ValidationError as error:
            raise DamagedError("its note can't be read") from error
        if found != note.arrays_sha256:
            raise DamagedError(f"sha256 is {found}, its note says {note.arrays_sha256}")
        if note.fingerprint != self.fingerprint:
            raise DamagedError("it belongs to another spec or dataset")
        return note, path

    def _prune(self) -> None:
        """Keep this pod's newest ones, then those before; what killed pods left half-written goes too."""
        names = sorted(self._names(), key=lambda name: (self._is_own(name), _age(name)), reverse=True)
        for name in names[self._keep :]:
            # The note first: without it, the rest is no checkpoint.
            self.discard(name)
        kept = set(names[: self._keep])
        for folder in self._attempts():
            for path in folder.iterdir():
                name = f"{folder.name}/{path.stem}"
                whole = path.suffix in (".npz", ".json") and not path.name.startswith(".") and name in kept
                if not whole and self._pod not in path.name:
                    path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()

    def _is_own(self, name: str) -> bool:
        return name.endswith(f"-{self._pod}") and name.startswith(f"a{self._attempt}/")

    def _names(self) -> list[str]:
        """All checkpoints of this and earlier attempts."""
        found = [
            f"{folder.name}/{path.stem}" for folder in self._attempts() for path in folder.glob("[!.]*.json")
        ]
        return [name for name in found if _NAME.match(name)]

    def _attempts(self) -> list[Path]:
        """Folders of this and earlier attempts."""
        return [
            folder
            for folder in self.folder.glob("a*")
            if folder.name[1:].isdecimal() and int(folder.name[1:]) <= self._attempt
        ]


def _age(name: str) -> tuple[int, int, int, str]:
    """What orders checkpoints: attempt, finished epochs, steps."""
    match = _NAME.match(name)
    assert match  # only such names are listed
    attempt, epoch, step, pod = match.groups()
    return int(attempt), int(epoch), int(step), pod


def _remove_parts(*paths: Path) -> None:
    for path in paths:
        with contextlib.suppress(OSError):  # the first error is the one that counts
            path.unlink(missing_ok=True)
