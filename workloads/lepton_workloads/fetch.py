"""`python -m lepton_workloads.fetch`: brings an artifact into `MODEL_DIR`, where the server finds it.

Only the files that the server needs are taken, each is checked against SHA256SUMS, and the names appear by
renames at the end, SHA256SUMS last. Running again in the same folder gives the same end.
"""

import hashlib
import os
import re
from pathlib import Path, PurePosixPath
from typing import IO

from pydantic import ValidationError

from lepton_workloads.archive import BadArchive, Opener, open_archive
from lepton_workloads.contract.artifact import (
    CHECKSUMS_FILE,
    LITERT_FILE,
    SERVING_FILES,
    SIGNATURE_FILE,
    Signature,
)
from lepton_workloads.contract.outcome import Failure, Outcome
from lepton_workloads.contract.tasks import MODEL_DIR, SOURCE_DIR, TASK_ENV, FetchTask
from lepton_workloads.download import download
from lepton_workloads.logs import Log
from lepton_workloads.paths import place
from lepton_workloads.termination import WorkloadError, run_and_exit

NEEDED_FILES = (LITERT_FILE, SIGNATURE_FILE)
TEMPORARY = ".tmp-"
MAX_CHECKSUMS_BYTES = 1024**2
CHUNK_BYTES = 256 * 1024
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")

log = Log(__name__)


def fetch(task: FetchTask, source_dir: Path, model_dir: Path) -> None:
    """Brings the artifact of `task` into `model_dir`.

    Raises:
        WorkloadError: `SourceNotFound`, `DownloadFailed`, `ChecksumMismatch`, `InvalidData`, `InvalidSpec`,
            `StorageFailed`.
    """
    if (task.path is None) == (task.url is None):
        raise _terminal(Failure.INVALID_SPEC, "exactly one of path and url must be given")
    try:
        model_dir.mkdir(parents=True, exist_ok=True)
        _remove_temporary(model_dir)
        if task.path is not None:
            _fetch_folder(task, task.path, source_dir, model_dir)
        else:
            _fetch_url(task, str(task.url), model_dir)
    except OSError as error:
        raise WorkloadError(Failure.STORAGE_FAILED, f"copying failed: {error}", terminal=False) from error
    finally:
        _remove_temporary(model_dir)


def _fetch_folder(task: FetchTask, path: str, source_dir: Path, model_dir: Path) -> None:
    relative = PurePosixPath(path)
    if relative.is_absolute() or ".." in relative.parts:
        raise _terminal(Failure.INVALID_SPEC, f"path {path!r} must be relative and must not hold '..'")
    root = source_dir.resolve()
    folder = (root / relative).resolve()
    if not folder.is_relative_to(root):
        raise _terminal(Failure.INVALID_SPEC, f"path {path!r} leads out of the claim by a link")
    if not folder.is_dir():
        raise _not_found(f"there is no folder {path!r} on the claim")

    def open_file(name: str) -> IO[bytes]:
        file = folder / name
        if file.is_symlink() or (file.exists() and not file.is_file()):
            # A link could name any file of this container, a pipe would hold it up; an artifact has neither.
            raise _terminal(Failure.INVALID_DATA, f"{name} in the folder {path!r} is no regular file")
        return file.open("rb")

    _install(open_file, f"folder {path!r}", model_dir, task.max_bytes, digest=task.sha256)


def _fetch_url(task: FetchTask, url: str, model_dir: Path) -> None:
    archive = model_dir / f"{TEMPORARY}archive"
    log.info("Began to download", max_bytes=task.max_bytes)
    digest = download(url, archive, task.max_bytes)
    log.info("Downloaded", bytes=archive.stat().st_size, sha256=digest)
    if task.sha256 is not None and digest != task.sha256.lower():
        raise _terminal(
            Failure.CHECKSUM_MISMATCH, f"the archive has the sha256 {digest}, not {task.sha256.lower()}"
        )
    try:
        with open_archive(archive, CHECKSUMS_FILE, task.max_bytes) as open_member:
            _install(open_member, "archive", model_dir, task.max_bytes, digest=None)
    except BadArchive as error:
        raise _terminal(Failure.INVALID_DATA, str(error)) from error


def _install(opener: Opener, source: str, model_dir: Path, max_bytes: int, digest: str | None) -> None:
    """Copies, checks, renames. `digest` is that of SHA256SUMS, when it is known."""
    sums = _read_checksums(opener, source)
    found = hashlib.sha256(sums).hexdigest()
    if digest is not None and found != digest.lower():
        message = f"{CHECKSUMS_FILE} in the {source} has the sha256 {found}, not {digest.lower()}"
        raise _terminal(Failure.CHECKSUM_MISMATCH, message)
    checksums = _parse_checksums(sums)
    for name in NEEDED_FILES:
        if name not in checksums:
            raise _terminal(Failure.INVALID_DATA, f"{CHECKSUMS_FILE} in the {source} does not list {name}")
    names = [name for name in SERVING_FILES if name in checksums]
    total = 0
    for name in names:
        total += _copy(opener, name, source, model_dir, checksums[name], max_bytes - total)
    try:
        Signature.model_validate_json(_temporary(model_dir, SIGNATURE_FILE).read_bytes())
    except ValidationError as error:
        raise _terminal(Failure.INVALID_DATA, f"{SIGNATURE_FILE} in the {source}: {error}") from error
    _temporary(model_dir, CHECKSUMS_FILE).write_bytes(sums)
    for name in (*names, CHECKSUMS_FILE):
        _temporary(model_dir, name).replace(model_dir / name)
    log.info("Fetched artifact", digest=found, files=len(names), bytes=total)


def _read_checksums(opener: Opener, source: str) -> bytes:
    with _opened(opener, CHECKSUMS_FILE, source) as file:
        sums = _read(file, MAX_CHECKSUMS_BYTES + 1)
    if len(sums) > MAX_CHECKSUMS_BYTES:
        raise _terminal(Failure.INVALID_DATA, f"{CHECKSUMS_FILE} in the {source} is too large")
    return sums


def _read(file: IO[bytes], size: int) -> bytes:
    """Up to `size` bytes, in pieces."""
    data = bytearray()
    while len(data) < size and (chunk := file.read(min(CHUNK_BYTES, size - len(data)))):
        data += chunk
    return bytes(data)


def _parse_checksums(sums: bytes) -> dict[str, str]:
    """sha256 (hex, lower case) by file name, from the lines that `sha256sum` writes."""
    checksums: dict[str, str] = {}
    for number, line in enumerate(sums.decode("utf-8", "replace").splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if not match:
            raise _terminal(Failure.INVALID_DATA, f"line {number} of {CHECKSUMS_FILE} is no checksum")
        checksums[match[2].removeprefix("./")] = match[1].lower()
    return checksums


def _copy(opener: Opener, name: str, source: str, model_dir: Path, expected: str, max_bytes: int) -> int:
    """Copies one file to its temporary name; returns its size in bytes."""
    digest = hashlib.sha256()
    size = 0
    with _opened(opener, name, source) as file, _temporary(model_dir, name).open("wb") as copy:
        while chunk := file.read(CHUNK_BYTES):
            size += len(chunk)
            if size > max_bytes:
                raise _terminal(Failure.INVALID_DATA, f"the files in the {source} are too large")
            digest.update(chunk)
            copy.write(chunk)
    if digest.hexdigest() != expected:
        found = digest.hexdigest()
        message = f"{name} in the {source} has the sha256 {found}, {CHECKSUMS_FILE} says {expected}"
        raise _terminal(Failure.CHECKSUM_MISMATCH, message)
    return size


def _opened(opener: Opener, name: str, source: str) -> IO[bytes]:
    try:
        return opener(name)
    except FileNotFoundError:
        raise _not_found(f"there is no {name} in the {source}") from None


def _temporary(model_dir: Path, name: str) -> Path:
    return model_dir / f"{TEMPORARY}{name}"


def _remove_temporary(model_dir: Path) -> None:
    for left in model_dir.glob(f"{TEMPORARY}*"):
        left.unlink(missing_ok=True)


def _not_found(message: str) -> WorkloadError:
    return WorkloadError(Failure.SOURCE_NOT_FOUND, message, terminal=False)


def _terminal(reason: Failure, message: str) -> WorkloadError:
    return WorkloadError(reason, message, terminal=True)


def main() -> Outcome:
    """The work of the container; an empty outcome, since what was fetched lies in the folder."""
    try:
        task = FetchTask.model_validate_json(os.environ.get(TASK_ENV, ""))
    except ValidationError as error:
        raise _terminal(Failure.INVALID_SPEC, f"{TASK_ENV} is no task to fetch: {error}") from error
    fetch(task, place(SOURCE_DIR), place(MODEL_DIR))
    return Outcome()


if __name__ == "__main__":
    run_and_exit(main)
