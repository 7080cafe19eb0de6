"""Index 0's end of a preparation: judge the parts, join them, publish the dataset."""

import hashlib
import uuid
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from lepton_workloads.contract.data import (
    MANIFEST_FILE,
    DatasetManifest,
    InvalidFile,
    SplitInfo,
    SplitName,
)
from lepton_workloads.contract.outcome import Failure, PrepareResult
from lepton_workloads.contract.tasks import PrepareTask
from lepton_workloads.decode import DECODER
from lepton_workloads.prepare.parts import KINDS, MAX_EXAMPLES, Part, data_file, part_data_file
from lepton_workloads.prepare.plan import Plan
from lepton_workloads.storage import folder_bytes, publish_folder, remove, sync_tree
from lepton_workloads.termination import WorkloadError, printable

COPY_BYTES = 4 * 1024**2
NAMED_FILES = 5


def read_manifest(folder: Path) -> DatasetManifest | None:
    """The manifest of a published dataset, or None when there is none that can be read."""
    try:
        return DatasetManifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None


def check_invalid(total: int, count: int, examples: Sequence[InvalidFile], limit: float) -> None:
    """Refuse a source with too many bad files.

    Raises:
        WorkloadError: InvalidData, naming the first few files and how many there are.
    """
    if count == 0 or count <= limit * total:
        return
    named = "; ".join(f"{bad.path}: {bad.error}" for bad in examples[:NAMED_FILES])
    more = f"; and {count - NAMED_FILES} more" if count > NAMED_FILES else ""
    raise _invalid(
        f"{count} of {total} files can't be used (spec.maxInvalidFraction accepts {limit:.2%}): {named}{more}"
    )


def finish(
    temporary: Path, final: Path, task: PrepareTask, plan: Plan, parts: Sequence[Part]
) -> PrepareResult:
    """Join the parts in order of the plan and rename the result to `final`.

    Raises:
        WorkloadError: InvalidData.
        OSError: the store.
    """
    count = sum(part.invalid_files for part in parts)
    examples = [bad for part in parts for bad in part.invalid_examples][:MAX_EXAMPLES]
    check_invalid(plan.total, count, examples, task.max_invalid_fraction)
    splits = _split_infos(plan, parts)
    _check_splits(task, plan, splits)
    for half_joined in temporary.glob("out-*"):
        remove(half_joined)  # of an earlier try, which ended when the disk was full
    out = temporary / f"out-{uuid.uuid4().hex[:8]}"
    out.mkdir()
    checksums = {}
    for split in SplitName:
        for kind in KINDS:
            sources = [part_data_file(temporary, part, split, kind) for part in parts]
            target = data_file(out, split, kind)
            checksums[target.name] = _join(sources, target)
    manifest = DatasetManifest(
        key=plan.key,
        labels=plan.labels,
        picture=task.picture,
        normalization=task.normalization,
        decoder=DECODER,
        splits=splits,
        invalid_files=count,
        invalid_examples=examples,
        checksums=checksums,
    )
    (out / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
    sync_tree(out)
    publish_folder(out, final, MANIFEST_FILE)
    return result_of(manifest, final, reused=False)


def result_of(manifest: DatasetManifest, folder: Path, *, reused: bool) -> PrepareResult:
    """What the operator is told about a published dataset."""
    samples = {split: manifest.splits[split].samples for split in SplitName}
    return PrepareResult(
        key=manifest.key,
        samples=sum(samples.values()),
        classes=len(manifest.labels),
        labels=[printable(label, 40) for label in manifest.labels[:64]],
        train=samples[SplitName.TRAIN],
        validation=samples[SplitName.VALIDATION],
        test=samples[SplitName.TEST],
        invalid_files=manifest.invalid_files,
        reused=reused,
        height=manifest.picture.height,
        width=manifest.picture.width,
        channels=manifest.picture.channels,
        bytes=folder_bytes(folder),
    )


def _split_infos(plan: Plan, parts: Sequence[Part]) -> dict[SplitName, SplitInfo]:
    infos = {}
    for split in SplitName:
        counts = [sum(part.per_class[split][label] for part in parts) for label in range(len(plan.labels))]
        infos[split] = SplitInfo(samples=sum(counts), per_class=counts)
    return infos


def _check_splits(task: PrepareTask, plan: Plan, splits: dict[SplitName, SplitInfo]) -> None:
    train = splits[SplitName.TRAIN].per_class
    without = [label for label, samples in zip(plan.labels, train, strict=True) if not samples]
    if without:
        raise _invalid(f"classes without a usable picture to train with: {', '.join(without[:NAMED_FILES])}")
    wanted = {SplitName.VALIDATION: task.split.validation, SplitName.TEST: task.split.test}
    for split, fraction in wanted.items():
        if fraction > 0 and not splits[split].samples:
            alternative = ", or set spec.split.validation to 0" if split is SplitName.VALIDATION else ""
            raise _invalid(
                f"{plan.total} pictures are too few: none is left for the {split} split; "
                f"give each class at least 3 pictures{alternative}"
            )


def _join(sources: Sequence[Path], target: Path) -> str:
    """Write `sources` one after the other into `target`; its sha256 (hex)."""
    digest = hashlib.sha256()
    with target.open("wb") as output:
        for source in sources:
            with source.open("rb") as part:
                while block := part.read(COPY_BYTES):
                    digest.update(block)
                    output.write(block)
    return digest.hexdigest()


def _invalid(message: str) -> WorkloadError:
    return WorkloadError(Failure.INVALID_DATA, printable(message), terminal=True)
