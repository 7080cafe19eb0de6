"""A model version: written beside its place, published by one rename, found again after a lost report."""

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lepton_workloads.contract.artifact import CHECKSUMS_FILE, METRICS_FILE
from lepton_workloads.contract.base import Record
from lepton_workloads.contract.outcome import FoldResult, Outcome, TrainResult
from lepton_workloads.contract.tasks import CHECKPOINTS_DIR, MODELS_DIR, POD_UID_ENV, TrainTask
from lepton_workloads.logs import Log
from lepton_workloads.paths import place
from lepton_workloads.storage import publish_folder, sha256_of, sync_tree, write_file

PUBLISHING_FILE = "publishing.json"
FOLD_FILE = "result.json"

log = Log(__name__)


class Publishing(Record):
    """`publishing.json` in the job's checkpoints: what is about to be renamed to `models/<digest>`."""

    digest: str
    result: TrainResult


def temporary_folder() -> Path:
    """Where this pod writes its version, in the same mount as its final place."""
    return place(MODELS_DIR) / f".tmp-{os.environ.get(POD_UID_ENV) or uuid.uuid4().hex}"


def write_json(path: Path, value: Record | dict[str, Any]) -> None:
    """Readable JSON, since people look into artifacts."""
    data = value.to_json_dict() if isinstance(value, Record) else value
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_checksums(folder: Path) -> str:
    """Write SHA256SUMS over all files, sorted by path; its own sha256 (hex) is the version's digest."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    text = "".join(f"{sha256_of(folder / name)}  {name}\n" for name in names if name != CHECKSUMS_FILE)
    (folder / CHECKSUMS_FILE).write_text(text, encoding="utf-8")
    return hashlib.sha256(text.encode()).hexdigest()


def publish(temporary: Path, result: TrainResult) -> None:
    """Make the version appear as `models/<digest>`.

    The note for a later pod comes first: when the rename is done, the result can be found whatever happens.

    Raises:
        OSError: the store.
    """
    sync_tree(temporary)
    note = Publishing(digest=result.digest, result=result)
    write_file(place(CHECKPOINTS_DIR) / PUBLISHING_FILE, note.to_json())
    publish_folder(temporary, place(MODELS_DIR) / result.digest, CHECKSUMS_FILE)
    log.info("Published", digest=result.digest, bytes=result.bytes)


def published(task: TrainTask) -> Outcome | None:
    """What an earlier pod of this task brought to its end, or None.

    Raises:
        OSError: the store.
    """
    if task.fold:
        fold = published_fold(task)
        return None if fold is None else Outcome(fold=fold)
    result = published_result()
    return None if result is None else Outcome(train=result)


def publish_fold(task: TrainTask, result: FoldResult, metrics: Record) -> None:
    """Keep a fold's result for a later pod of it: a finished fold never runs again.

    Args:
        metrics: all figures, for people; they are there when the result is.

    Raises:
        OSError: the store.
    """
    path = _fold_file(task)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path.with_name(METRICS_FILE), metrics.to_json())
    write_file(path, result.to_json())
    log.info("Judged a fold", **result.to_json_dict())


def published_fold(task: TrainTask) -> FoldResult | None:
    """The result of an earlier pod of this fold, or None."""
    try:
        result = FoldResult.model_validate_json(_fold_file(task).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError:
        log.warning("Ignored a result that can't be read", file=FOLD_FILE)
        return None
    log.info("Found the result that an earlier pod left", **result.to_json_dict())
    return result


def _fold_file(task: TrainTask) -> Path:
    return place(CHECKPOINTS_DIR) / task.state_folder / FOLD_FILE


def published_result() -> TrainResult | None:
    """The result of an earlier pod of this job whose version is in the store, or None."""
    try:
        note = Publishing.model_validate_json((place(CHECKPOINTS_DIR) / PUBLISHING_FILE).read_bytes())
        found = sha256_of(place(MODELS_DIR) / note.digest / CHECKSUMS_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError:
        log.warning("Ignored a note that can't be read", file=PUBLISHING_FILE)
        return None
    if found != note.digest or note.result.digest != note.digest:
        log.warning("Ignored a version whose checksums don't fit", digest=note.digest)
        return None
    log.info("Found the version that an earlier pod published", digest=note.digest)
    return note.result.model_copy(update={"recovered": True})
