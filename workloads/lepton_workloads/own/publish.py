"""`python -m lepton_workloads.own.publish`: own code ended well, and what it left becomes a version."""

import os
import platform
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from lepton_workloads.contract.artifact import (
    CHECKSUMS_FILE,
    LINEAGE_FILE,
    LITERT_FILE,
    SAVED_MODEL_DIR,
    SIGNATURE_FILE,
    Lineage,
    Preprocessing,
    Signature,
    Tensor,
)
from lepton_workloads.contract.data import MANIFEST_FILE, DatasetManifest
from lepton_workloads.contract.outcome import Failure, Outcome, TrainResult
from lepton_workloads.contract.own_code import (
    MAX_FILES,
    MAX_OUTPUT_BYTES,
    OUTPUT_DIR,
    RESULT_FILE,
    OwnCodeTask,
    OwnResult,
)
from lepton_workloads.contract.tasks import DATASET_DIR, THREADS_ENV
from lepton_workloads.logs import Log
from lepton_workloads.own.report import BadFile, read_bounded
from lepton_workloads.own.task import read_task
from lepton_workloads.paths import place
from lepton_workloads.serve.version import engine_loader, read_signature
from lepton_workloads.storage import folder_bytes, remove, remove_stale, storage_errors
from lepton_workloads.termination import WorkloadError, at_sigterm, printable, run_and_exit
from lepton_workloads.train import artifact

SEE = "docs/own-code.md says what it holds"
WRITTEN_BY_LEPTON = (LINEAGE_FILE, CHECKSUMS_FILE)
INPUT, OUTPUT = "image", "probabilities"
"""Names in the signature that Lepton writes: those of its own network."""

log = Log(__name__)


def main() -> Outcome:
    """The result of the chief; an earlier pod's, when that had published already.

    Raises:
        WorkloadError: InvalidSpec, InvalidData, ExportFailed, DatasetNotReady, StorageFailed.
    """
    task, index = read_task()
    if index:
        return Outcome()
    with storage_errors("read the store"):
        published = artifact.published_result()
    if published is not None:
        log.info("Found the version that an earlier pod published", digest=published.digest)
        return Outcome(train=published)
    output = place(OUTPUT_DIR)
    files = output_files(output)
    result = read_result(output)
    value = _gate_value(task, result)
    folder = artifact.temporary_folder()
    at_sigterm(lambda: remove(folder))
    try:
        with storage_errors("write the model version"):
            remove_stale(folder.parent)
            remove(folder)
            folder.mkdir()
            copy_files(output, files, folder)
            trained = _complete(folder, task, result, value)
            artifact.publish(folder, trained)
    finally:
        remove(folder)
    return Outcome(train=trained)


def output_files(folder: Path) -> list[str]:
    """All files of the output, by their paths relative to it, sorted.

    Raises:
        WorkloadError: InvalidData for what is no regular file, for names that SHA256SUMS can't hold, and beyond
            MAX_FILES or MAX_OUTPUT_BYTES.
    """
    found: list[str] = []
    pending, count, size = [folder], 0, 0
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                name = Path(entry.path).relative_to(folder).as_posix()
                count += 1
                if count > MAX_FILES:
                    raise _invalid(f"the output holds more than {MAX_FILES} files and folders: write fewer")
                if not name.isprintable():
                    raise _invalid(f"{name!r} in the output: write names of printable characters only")
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    found.append(name)
                    size += entry.stat(follow_symlinks=False).st_size
                else:
                    raise _invalid(f"{name} in the output is a link or no regular file: write a copy of it")
    for name in WRITTEN_BY_LEPTON:
        if name in found:
            raise _invalid(f"{name} in the output is what Lepton writes: give your file another name")
    if size > MAX_OUTPUT_BYTES:
        raise _invalid(f"the output has {size} bytes: write at most {MAX_OUTPUT_BYTES}")
    return sorted(found)


def read_result(folder: Path) -> OwnResult:
    """result.json.

    Raises:
        WorkloadError: InvalidSpec when the program wrote none, InvalidData when it can't be read.
    """
    try:
        return OwnResult.model_validate_json(read_bounded(folder / RESULT_FILE))
    except FileNotFoundError:
        text = (
            f"the program of network.custom ended well and left no {RESULT_FILE} in {OUTPUT_DIR}: write one; "
            f"{SEE}"
        )
        raise WorkloadError(Failure.INVALID_SPEC, text, terminal=True) from None
    except BadFile as error:
        raise _invalid(f"{RESULT_FILE}: {error}; {SEE}") from error
    except ValidationError as error:
        rows = error.errors(include_url=False, include_context=False, include_input=False)
        problems = "; ".join(f"{'.'.join(map(str, row['loc']))}: {row['msg']}" for row in rows[:5])
        raise _invalid(f"{RESULT_FILE} can't be read ({problems}); {SEE}") from error


def _gate_value(task: OwnCodeTask, result: OwnResult) -> float | None:
    if task.gate is None:
        return None
    value = result.figure(task.gate)
    if value is None:
        label, metric = task.gate.label, task.gate.metric
        name = metric if label is None else f"perLabel, {label}, {metric}"
        text = f"evaluation.gate asks for {task.gate.demand}, and {RESULT_FILE} has none: write {name} there"
        raise WorkloadError(Failure.INVALID_SPEC, text, terminal=True)
    return value


def copy_files(source: Path, names: list[str], folder: Path) -> None:
    """Copy the files; own code has ended, so they stay as they were checked."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, folder / name, follow_symlinks=False)


def _complete(folder: Path, task: OwnCodeTask, result: OwnResult, value: float | None) -> TrainResult:
    """Check the model, add what Lepton writes, and make the result."""
    weights = result.weights_digest or artifact.write_checksums(folder)
    if (folder / LITERT_FILE).is_file() or (folder / SAVED_MODEL_DIR).is_dir():
        _check_model(folder)
    artifact.write_json(folder / LINEAGE_FILE, _lineage(task, result, weights))
    figures = result.model_dump(exclude={"per_label", "weights_digest", "python", "keras"})
    return TrainResult(
        **figures,
        digest=artifact.write_checksums(folder),
        weights_digest=weights,
        gate_value=value,
        bytes=folder_bytes(folder),
    )


def _check_model(folder: Path) -> None:
    """Load it as the server will, and try one input. Nothing here can load a SavedModel: its server does.

    Raises:
        WorkloadError: InvalidData for the signature, ExportFailed for the model, DatasetNotReady.
    """
    if not (folder / SIGNATURE_FILE).is_file():
        artifact.write_json(folder / SIGNATURE_FILE, _signature())
    signature = read_signature(folder)
    if not (folder / LITERT_FILE).is_file():
        return
    try:
        engine_loader(folder, signature, 1)()
    except WorkloadError as error:
        text = (
            f"{error.message}: write a LiteRT model of built-in operations, float32, from pictures "
            f"{signature.inputs[0].shape} to one probability for each of {len(signature.labels)} labels"
        )
        raise WorkloadError(Failure.EXPORT_FAILED, printable(text), terminal=True) from error


def _signature() -> Signature:
    """For a model that takes the dataset's pictures and tells its labels, which most do."""
    path = place(DATASET_DIR) / MANIFEST_FILE
    try:
        manifest = DatasetManifest.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError) as error:
        text = f"{MANIFEST_FILE} of the prepared dataset can't be read any more: was it removed?"
        raise WorkloadError(Failure.DATASET_NOT_READY, text, terminal=False) from error
    picture = manifest.picture
    return Signature(
        inputs=[Tensor(name=INPUT, shape=[-1, picture.height, picture.width, picture.channels])],
        outputs=[Tensor(name=OUTPUT, shape=[-1, len(manifest.labels)])],
        labels=manifest.labels,
        preprocessing=Preprocessing(
            picture=picture, normalization=manifest.normalization, decoder=manifest.decoder
        ),
    )


def _lineage(task: OwnCodeTask, result: OwnResult, weights: str) -> Lineage:
    finished = datetime.now(UTC)
    return Lineage(
        job=task.job,
        job_uid=task.job_uid,
        attempt=task.attempt,
        dataset=task.dataset_name,
        dataset_key=task.dataset_key,
        image=task.code.image,
        code_version=result.code_version,
        seed=task.training.seed,
        workers=task.workers,
        threads=int(os.environ.get(THREADS_ENV, "1")),
        cpu=platform.machine(),
        python=result.python,
        tensorflow=result.tensorflow,
        keras=result.keras,
        network={"type": "custom", "custom": task.code.to_json_dict()},
        training=task.training.to_json_dict(),
        weights_digest=weights,
        started=_stamp(finished - timedelta(seconds=min(result.seconds, 1e9))),
        finished=_stamp(finished),
    )


def _stamp(time: datetime) -> str:
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")


def _invalid(text: str) -> WorkloadError:
    return WorkloadError(Failure.INVALID_DATA, printable(text), terminal=True)


if __name__ == "__main__":
    run_and_exit(main)
