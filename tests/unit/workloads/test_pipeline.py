"""Batches on their way to the training thread are the same as taken one by one, however much memory there is."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton_workloads.contract.data import Normalization, SplitName
from lepton_workloads.contract.tasks import Fold
from lepton_workloads.contract.training import Augment
from lepton_workloads.termination import WorkloadError
from lepton_workloads.train import pictures
from lepton_workloads.train.data import SplitData, epoch_order, window_order

from .test_fold import dataset as small_dataset

SHAPE = (6, 5, 3)
RECORD = 90


@pytest.fixture
def split(tmp_path: Path) -> SplitData:
    """250 pictures in a file."""
    images = np.random.default_rng(1).integers(0, 256, (250, *SHAPE)).astype(np.uint8)
    images.tofile(tmp_path / "images")
    mapped = np.memmap(tmp_path / "images", np.uint8, "r", shape=images.shape)
    return SplitData(mapped, (np.arange(250) % 7).astype(np.int32))


@pytest.fixture(scope="module")
def pipeline() -> Any:
    """Imported late: TensorFlow takes seconds."""
    return importlib.import_module("lepton_workloads.train.pipeline")


def as_bytes(batches: Iterator[Any]) -> list[list[Any]]:
    """Everything in the batches, so that it can be compared."""
    return [
        [part if isinstance(part, int) else np.asarray(part).tobytes() for part in batch] for batch in batches
    ]


@pytest.mark.parametrize("bound", [1 << 30, 250 * RECORD, 250 * RECORD - 1, 5000, 1])
@pytest.mark.parametrize(("workers", "start"), [(1, 0), (2, 0), (4, 3), (1, 7), (1, 8)])
def test_what_is_fed_is_what_the_order_says_whatever_fits_in_memory(
    pipeline: Any, split: SplitData, bound: int, workers: int, start: int
) -> None:
    order = epoch_order(len(split), 7, 0)
    for index in range(workers):
        fed = pipeline.feed(split, order, 32, workers, index, start=start, bound=bound)
        assert as_bytes(fed) == as_bytes(split.batches(order, 32, workers, index, start))


def test_a_feed_goes_on_at_a_step_as_if_it_had_never_ended(pipeline: Any, split: SplitData) -> None:
    order = window_order(len(split), 7, 3, 8, 64)
    prepare = pipeline.Preparation(Normalization(), Augment(rotate_degrees=20, flip="both"), 7).training(3)
    whole = as_bytes(pipeline.feed(split, order, 16, prepare=prepare, bound=3000))
    assert as_bytes(pipeline.feed(split, order, 16, prepare=prepare, bound=3000, start=5)) == whole[5:]
    assert as_bytes(pipeline.feed(split, order, 16, prepare=prepare)) == whole


def test_pictures_are_normalised_as_the_dataset_says(pipeline: Any, split: SplitData) -> None:
    preparation = pipeline.Preparation(Normalization(scale=0.5, offset=-3), None, 7)
    order = np.arange(len(split))
    for prepare in (preparation.judging, preparation.training(0)):
        for fed, raw in zip(
            pipeline.feed(split, order, 50, prepare=prepare), split.batches(order, 50), strict=True
        ):
            assert np.array_equal(fed.images, raw.images.astype(np.float32) * 0.5 - 3)


def test_training_pictures_change_with_the_epoch_and_others_never(pipeline: Any, split: SplitData) -> None:
    preparation = pipeline.Preparation(Normalization(), Augment(shift=0.3), 7)
    order = np.arange(len(split))

    def images(prepare: Any) -> bytes:
        return b"".join(
            np.asarray(b.images).tobytes() for b in pipeline.feed(split, order, 50, prepare=prepare)
        )

    assert images(preparation.training(0)) == images(preparation.training(0))
    assert images(preparation.training(0)) != images(preparation.training(1))
    assert images(preparation.judging) == (split.images.astype(np.float32) * np.float32(1 / 255)).tobytes()


def test_an_error_of_the_storage_reaches_the_training(
    pipeline: Any, split: SplitData, tmp_path: Path
) -> None:
    with (tmp_path / "images").open("r+b") as file:
        file.truncate(100 * RECORD)
    for bound in (1 << 30, 2000):
        with pytest.raises(WorkloadError, match="became shorter"):
            list(pipeline.feed(split, np.arange(250), 25, bound=bound))
    (tmp_path / "images").unlink()
    for bound in (1 << 30, 2000):
        with pytest.raises(WorkloadError, match="could not read the prepared pictures"):
            list(pipeline.feed(split, np.arange(250), 25, bound=bound))


BIG = 160
MEASURE = """
import sys
import numpy as np
from lepton_workloads.train.data import SplitData, window_order
from lepton_workloads.train.pipeline import feed

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024

samples, bound = int(sys.argv[2]) * 16, int(sys.argv[3]) << 20
images = np.memmap(sys.argv[1], np.uint8, "r", shape=(samples, 128, 128, 4))
split = SplitData(images, np.zeros(samples, np.int32))
order = window_order(samples, 7, 0, 16, 256)
few = SplitData(np.zeros((64, 128, 128, 4), np.uint8), np.zeros(64, np.int32))
for _ in feed(few, np.arange(64), 32, bound=1 << 20):  # what TensorFlow needs by itself
    pass
before, pictures = peak(), 0
for batch in feed(split, order, 32, bound=bound):
    pictures += batch.pictures
print(pictures, peak() - before)
"""


def test_data_larger_than_the_bound_is_never_wholly_in_memory(tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        for number in range(BIG):
            file.write(bytes([number]) * 1024**2)
    workloads = Path(sys.modules["lepton_workloads"].__path__[0]).parent

    def grown(bound: int) -> int:
        command = [sys.executable, "-c", MEASURE, str(tmp_path / "big"), str(BIG), str(bound)]
        run = subprocess.run(command, env={"PYTHONPATH": str(workloads)}, capture_output=True, check=True)
        pictures, megabytes = run.stdout.split()
        assert int(pictures) == BIG * 16
        return int(megabytes)

    assert grown(16) < BIG / 2
    # The same measure sees it when all of it is kept.
    assert grown(BIG) > BIG * 0.9


@pytest.mark.parametrize(("limit", "bound"), [("max\n", 1 << 30), ("2147483648\n", 1 << 29), ("", 1 << 30)])
def test_the_bound_follows_the_memory_limit(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str, bound: int
) -> None:
    if limit:
        (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(pipeline, "LIMIT_FILES", (tmp_path / "none", tmp_path / "memory.max"))
    assert pipeline.memory_bound() == bound


def test_a_window_order_is_a_seeded_permutation_near_in_few_places() -> None:
    order = window_order(1000, 7, 2, block=10, window=200)
    assert sorted(order) == list(range(1000))
    assert np.array_equal(order, window_order(1000, 7, 2, 10, 200))
    assert not np.array_equal(order, window_order(1000, 7, 3, 10, 200))
    assert not np.array_equal(order, window_order(1000, 8, 2, 10, 200))
    for start in range(0, 1000, 200):
        part = order[start : start + 200]
        assert len({sample // 10 for sample in part.tolist()}) == 20
        assert np.abs(np.diff(part)).mean() > 50


def test_a_small_split_is_ordered_as_a_whole_and_a_large_one_in_windows(
    split: SplitData, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = "lepton_workloads.train.data"
    assert np.array_equal(split.order(7, 1), epoch_order(250, 7, 1))
    monkeypatch.setattr(f"{data}.MAX_SHUFFLED", 250 * RECORD - 1)
    monkeypatch.setattr(f"{data}.BLOCK", 5 * RECORD)
    monkeypatch.setattr(f"{data}.WINDOW", 50 * RECORD)
    assert np.array_equal(split.order(7, 1), window_order(250, 7, 1, 5, 50))


def test_neighbours_are_read_together(split: SplitData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_GAP", 2 * RECORD)
    monkeypatch.setattr(pictures, "MAX_READ", 10 * RECORD)
    rows = np.array([0, 1, 2, 5, 9, 9, 10, 40, 41, 60])
    assert [(int(a), int(b)) for a, b in pictures.pieces(rows, RECORD)] == [(0, 4), (4, 7), (7, 9), (9, 10)]
    assert [int(b) for _, b in pictures.pieces(np.arange(25), RECORD)] == [10, 20, 25]
    assert list(pictures.pieces(np.arange(0), RECORD)) == []
    shuffled = np.random.default_rng(2).permutation(rows)
    for images in (split.images, split.images[5:90], np.array(split.images)):
        assert np.array_equal(pictures.read_pictures(images, shuffled), images[shuffled])


def test_folds_share_the_pictures_out_by_class() -> None:
    data = small_dataset({SplitName.TRAIN: 60, SplitName.VALIDATION: 15, SplitName.TEST: 9})
    train, validation = data.splits[SplitName.TRAIN], data.splits[SplitName.VALIDATION]
    pixels = np.concatenate([train.images, validation.images])
    seen = []
    for index in range(5):
        fold = data.fold(Fold(index=index, folds=5), 7)
        held_out, rest = fold.splits[SplitName.VALIDATION], fold.splits[SplitName.TRAIN]
        assert fold.manifest.splits[SplitName.VALIDATION].per_class == [5, 5, 5]
        assert fold.manifest.splits[SplitName.TRAIN].per_class == [20, 20, 20]
        assert (len(held_out), len(rest), len(fold.splits[SplitName.TEST])) == (15, 60, 0)
        everything = [held_out.images[number].tobytes() for number in range(15)] + [
            picture.tobytes() for picture in pictures.read_pictures(rest.images, np.arange(60))
        ]
        assert sorted(everything) == sorted(picture.tobytes() for picture in pixels)
        labels = {p.tobytes(): label for p, label in zip(rest.images[:], rest.labels, strict=True)}
        assert all(
            labels[picture.tobytes()] == label
            for picture, label in zip(train.images, train.labels, strict=True)
            if picture.tobytes() in labels
        )
        seen += everything[:15]
    assert sorted(seen) == sorted(picture.tobytes() for picture in pixels)


def test_folds_are_seeded() -> None:
    data = small_dataset({SplitName.TRAIN: 60, SplitName.VALIDATION: 15, SplitName.TEST: 9})

    def rows(seed: int) -> list[int]:
        images = data.fold(Fold(index=1, folds=3), seed).splits[SplitName.VALIDATION].images
        assert isinstance(images, pictures.Selected)
        return images.rows.tolist()

    assert rows(7) == rows(7) != rows(8)


def test_a_fold_without_pictures_is_refused() -> None:
    data = small_dataset({SplitName.TRAIN: 3, SplitName.VALIDATION: 1, SplitName.TEST: 1})
    with pytest.raises(WorkloadError, match="4 pictures are too few for 5 folds"):
        data.fold(Fold(index=4, folds=5), 7)


def test_a_fold_is_fed_like_any_split(pipeline: Any, split: SplitData) -> None:
    images = pictures.Selected((split.images, split.images[:9]), np.arange(3, 255, 2))
    assert np.array_equal(images[125], split.images[3])
    selected = SplitData(images, split.labels[:126])
    order = epoch_order(126, 7, 0)
    for bound in (1 << 30, 2000):
        fed = as_bytes(pipeline.feed(selected, order, 32, bound=bound))
        assert fed == as_bytes(selected.batches(order, 32))
