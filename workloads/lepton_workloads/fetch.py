"""`python -m lepton_workloads.fetch`: brings an artifact into `MODEL_DIR`, where the server finds it.

Only the files that the server needs are taken, each is checked against SHA256SUMS, and the names appear by
renames at the end, SHA256SUMS last. Running again in the same folder gives the same end. An 8-bit network is let
through only when it is accurate enough.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import IO

from pydantic import ValidationError

from lepton_workloads.archive import BadArchive, Opener, open_archive
from lepton_workloads.contract.artifact import (
    CHECKSUMS_FILE,
    INT8_FILE,
    LITERT_FILE,
    METRICS_FILE,
    SAVED_MODEL_DIR,
    SERVING_FILES,
    SIGNATURE_FILE,
    Signature,
)
from lepton_workloads.contract.outcome import Failure, Outcome
from lepton_workloads.contract.serving import accuracy_drop, is_too_much
from lepton_workloads.contract.tasks import MODEL_DIR, SOURCE_DIR, TASK_ENV, FetchTask
from lepton_workloads.download import download
from lepton_workloads.logs import Log
from lepton_workloads.paths import place
from lepton_workloads.termination import WorkloadError, run_and_exit

TEMPORARY = ".tmp"
"""Folder in which files lie until all are whole."""
MAX_CHECKSUMS_BYTES = 1024**2
CHUNK_BYTES = 256 * 1024
MAX_FILES = 1000
"""Of a SavedModel: a variable or a table of words is a file."""
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")

log = Log(__name__)


def fetch(task: FetchTask, source_dir: Path, model_dir: Path) -> None:
    """Brings the artifact of `task` into `model_dir`.

    Raises:
        WorkloadError: `SourceNotFound`, `DownloadFailed`, `ChecksumMismatch`, `InvalidData`, `InvalidSpec`,
            `QuantizationGateNotPassed`, `StorageFailed`.
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

    _install(open_file, f"folder {path!r}", model_dir, task, digest=task.sha256)


def _fetch_url(task: FetchTask, url: str, model_dir: Path) -> None:
    archive = _temporary(model_dir, "archive")
    archive.parent.mkdir(exist_ok=True)
    log.info("Began to download", max_bytes=task.max_bytes)
    digest = download(url, archive, task.max_bytes)
    log.info("Downloaded", bytes=archive.stat().st_size, sha256=digest)
    if task.sha256 is not None and digest != task.sha256.lower():
        raise _terminal(
            Failure.CHECKSUM_MISMATCH, f"the archive has the sha256 {digest}, not {task.sha256.lower()}"
        )
    try:
        with open_archive(archive, CHECKSUMS_FILE, task.max_bytes) as open_member:
            _install(open_member, "archive", model_dir, task, digest=None)
    except BadArchive as error:
        raise _terminal(Failure.INVALID_DATA, str(error)) from error


def _install(opener: Opener, source: str, model_dir: Path, task: FetchTask, digest: str | None) -> None:
    """Copies, checks, renames. `digest` is that of SHA256SUMS, when it is known."""
    sums = _read_checksums(opener, source)
    found = hashlib.sha256(sums).hexdigest()
    if digest is not None and found != digest.lower():
        message = f"{CHECKSUMS_FILE} in the {source} has the sha256 {found}, not {digest.lower()}"
        raise _terminal(Failure.CHECKSUM_MISMATCH, message)
    checksums = _parse_checksums(sums)
    names = _wanted(task, checksums, source)
    total = 0
    for name in names:
        total += _copy(opener, name, source, model_dir, checksums[name], task.max_bytes - total)
    try:
        Signature.model_validate_json(_temporary(model_dir, SIGNATURE_FILE).read_bytes())
    except ValidationError as error:
        raise _terminal(Failure.INVALID_DATA, f"{SIGNATURE_FILE} in the {source}: {error}") from error
    if task.precision == "int8":
        _check_accuracy(_temporary(model_dir, METRICS_FILE), task.max_accuracy_drop)
    _temporary(model_dir, CHECKSUMS_FILE).write_bytes(sums)
    for name in (*names, CHECKSUMS_FILE):
        (model_dir / name).parent.mkdir(parents=True, exist_ok=True)
        _temporary(model_dir, name).replace(model_dir / name)
    log.info("Fetched artifact", digest=found, files=len(names), bytes=total)


def _wanted(task: FetchTask, checksums: dict[str, str], source: str) -> list[str]:
    """The files that this engine's server reads, by what SHA256SUMS lists."""
    needed = [SIGNATURE_FILE]
    if task.engine == "tensorflow":
        needed += [name for name in checksums if name.startswith(f"{SAVED_MODEL_DIR}/")]
        if len(needed) == 1:
            raise _terminal(
                Failure.INVALID_DATA, f"{CHECKSUMS_FILE} in the {source} lists no {SAVED_MODEL_DIR}/"
            )
        if len(needed) > MAX_FILES:
            raise _terminal(
                Failure.INVALID_DATA, f"{SAVED_MODEL_DIR}/ in the {source} has more than {MAX_FILES} files"
            )
        if bad := next((name for name in needed if ".." in PurePosixPath(name).parts), None):
            raise _terminal(
                Failure.INVALID_DATA, f"{CHECKSUMS_FILE} in the {source} lists {bad!r}: it must not hold '..'"
            )
    else:
        needed.append(LITERT_FILE)
    if task.precision == "int8":
        if INT8_FILE not in checksums:
            text = f"the version in the {source} has no {INT8_FILE}: write precision: float32"
            raise _terminal(Failure.QUANTIZATION_GATE_NOT_PASSED, text)
        needed += [INT8_FILE, METRICS_FILE]
    for name in needed:
        if name not in checksums:
            raise _terminal(Failure.INVALID_DATA, f"{CHECKSUMS_FILE} in the {source} does not list {name}")
    return list(dict.fromkeys([*needed, *(name for name in SERVING_FILES if name in checksums)]))


def _check_accuracy(metrics: Path, allowed: float) -> None:
    """Raises `QuantizationGateNotPassed` when 8 bits cost too much accuracy, or nobody measured it."""
    try:
        judged = json.loads(metrics.read_bytes())["quantization"]
        drop = accuracy_drop(float(judged["floatAccuracy"]), float(judged["int8Accuracy"]))
    except (ValueError, KeyError, TypeError):
        text = f"{METRICS_FILE} tells no accuracy of {INT8_FILE}: write precision: float32"
        raise _terminal(Failure.QUANTIZATION_GATE_NOT_PASSED, text) from None
    if is_too_much(drop, allowed):
        text = (
            f"in 8 bits the accuracy is {judged['int8Accuracy']:.4f}, in 32 bits {judged['floatAccuracy']:.4f}: "
            f"a drop of {drop:g}, above maxAccuracyDrop ({allowed:g}); raise that, or write precision: float32"
        )
        raise _terminal(Failure.QUANTIZATION_GATE_NOT_PASSED, text)


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
    temporary = _temporary(model_dir, name)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    with _opened(opener, name, source) as file, temporary.open("wb") as copy:
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
    return model_dir / TEMPORARY / name


def _remove_temporary(model_dir: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(model_dir / TEMPORARY)


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
