"""Writing to the store so that nothing half-written is ever seen, and saying what to do when it fails."""

import contextlib
import errno
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from lepton_workloads.contract.outcome import Failure
from lepton_workloads.termination import WorkloadError, printable

STALE_SECONDS = 86_400.0

_ADVICE = {
    errno.ENOSPC: "the volume is full: enlarge the claim, or delete datasets and models nobody uses",
    errno.EDQUOT: "the volume's quota is used up: raise it, or delete datasets and models nobody uses",
    errno.EROFS: "the volume is read-only: mount a claim that can be written",
    errno.EACCES: "permission denied: make the volume writable for the pod's group (fsGroup)",
    errno.EPERM: "not permitted: make the volume writable for the pod's group (fsGroup)",
    errno.ESTALE: "the volume's server lost the folder: check the storage, then try again",
    errno.EIO: "the volume reports input/output errors: check the storage",
}


@contextlib.contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Turn an OSError into StorageFailed with a sentence that says what to do; another try may succeed."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, error.strerror or str(error))
        where = f" ({error.filename})" if error.filename else ""
        raise WorkloadError(
            Failure.STORAGE_FAILED, printable(f"could not {doing}: {advice}{where}"), terminal=False
        ) from error


def remove_stale(parent: Path, now: float | None = None) -> None:
    """Remove temporary folders below `parent` in which nothing has changed for a day: their owners were killed."""
    oldest = (time.time() if now is None else now) - STALE_SECONDS
    for folder in parent.glob(".tmp-*"):
        with contextlib.suppress(FileNotFoundError):  # its owner removes it this very moment
            if max(path.lstat().st_mtime for path in (folder, *folder.rglob("*"))) < oldest:
                remove(folder)


def sha256_of(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """fsync a file or folder: a rename is only as good as what is on disk before it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """fsync all files and folders below `folder`, itself last."""
    for parent, _, files in os.walk(folder, topdown=False):
        for file in files:
            sync(Path(parent, file))
        sync(Path(parent))


def write_file(path: Path, text: str) -> None:
    """Write a file whole or not at all: temporary name, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        sync(temporary)
        temporary.rename(path)
    except OSError:
        with contextlib.suppress(OSError):  # the first error is the one that counts
            temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def publish_folder(temporary: Path, final: Path, marker: str) -> bool:
    """Rename `temporary`, a synced folder, to `final`; False when another one was there first.

    rename(2) replaces an empty folder, which the kubelet leaves when it mounts a sub-path too early.
    `marker` is the file that a whole folder holds.

    Raises:
        OSError: among others ENOTEMPTY when `final` holds something that isn't whole.
    """
    try:
        temporary.rename(final)
    except OSError:
        if not (final / marker).is_file():
            raise
        remove(temporary)
        return False
    sync(final.parent)
    return True


def remove(folder: Path) -> None:
    """Delete a folder; other pods may delete or write there at the same time."""
    shutil.rmtree(folder, ignore_errors=True)


def remove_surely(folder: Path) -> None:
    """Delete a folder into which another thread of this process still writes: out of its way first.

    Its files then have no path any more, so what comes late fails, and the last words of the process are near.
    """
    aside = folder.with_name(f"{folder.name}-removed")
    with contextlib.suppress(OSError):  # it was published, or is not there yet
        folder.rename(aside)
    remove(aside)
    remove(folder)


def folder_bytes(folder: Path) -> int:
    """Size of all files below `folder`, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
