"""Checkpoints on a volume: whole or not at all, checked, chosen, pruned."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton_workloads.contract.outcome import Epoch, Failure
from lepton_workloads.termination import WorkloadError
from lepton_workloads.train.checkpoint import Checkpoints, Note, Sums

from .conftest import Pod
from .training import task_of

ARRAYS = {"model/00000": np.arange(6, dtype=np.float32).reshape(2, 3), "optimizer/00000": np.int64(7)}


@pytest.fixture
def store(pod: Pod) -> Callable[..., Checkpoints]:
    """The checkpoints as a pod of an attempt sees them."""

    def of(attempt: int = 1, name: str = "pod-0", **fields: Any) -> Checkpoints:
        return Checkpoints(task_of("k", attempt=attempt, **fields), name)

    return of


def note(store: Checkpoints, epoch: int, step: int = 0) -> Note:
    history = [
        Epoch(epoch=number + 1, loss=1, accuracy=0, seconds=1, images_per_second=1) for number in range(epoch)
    ]
    sums = Sums(loss=1.5, hits=3, pictures=12, seconds=0.5)
    return Note(
        fingerprint=store.fingerprint,
        epoch=epoch,
        step=step,
        seed=7,
        sums=sums,
        history=history,
        weights_digest="a" * 64,
    )


def write(store: Checkpoints, epoch: int, step: int = 0) -> str:
    return store.write(note(store, epoch, step), ARRAYS)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_what_was_written_is_read_again(store: Callable[..., Checkpoints]) -> None:
    name = write(store(), 3, 20)
    found = store(attempt=2, name="other").load(name)
    assert found.note.model_copy(update={"arrays_sha256": None}) == note(store(), 3, 20)
    assert set(found.arrays) == set(ARRAYS)
    for key, value in ARRAYS.items():
        assert np.array_equal(found.arrays[key], value)
        assert found.arrays[key].dtype == value.dtype


def test_the_newest_of_all_earlier_attempts_is_chosen(store: Callable[..., Checkpoints]) -> None:
    assert store().newest() == ""
    write(store(), 9)
    second = write(store(attempt=2), 4)
    later = write(store(attempt=2), 4, 30)
    write(store(attempt=3), 1)
    assert second < later
    assert store(attempt=2).newest() == later


def test_a_damaged_one_is_passed_over_for_the_one_before(pod: Pod, store: Callable[..., Checkpoints]) -> None:
    names = [write(store(checkpoint={"keep": 5}), epoch) for epoch in range(1, 6)]
    files_of = {name: pod.checkpoints / f"{name}.npz" for name in names}
    files_of[names[4]].write_bytes(files_of[names[4]].read_bytes()[:-1])
    files_of[names[3]].unlink()
    files_of[names[2]].with_suffix(".json").write_text("{")
    assert store(attempt=2).newest() == names[1]
    with pytest.raises(WorkloadError, match="sha256 is") as caught:
        store(attempt=2).load(names[4])
    assert (caught.value.reason, caught.value.terminal) == (Failure.STORAGE_FAILED, False)


@pytest.mark.parametrize(
    "other",
    [
        {"network": {"convolutions": [7]}},
        {"training": {"epochs": 3}},
        {"datasetKey": "other"},
        {"workers": 2},
    ],
)
def test_one_of_another_spec_is_never_used(store: Callable[..., Checkpoints], other: dict[str, Any]) -> None:
    name = write(store(), 1)
    assert store(attempt=2, **other).newest() == ""
    with pytest.raises(WorkloadError, match="another spec"):
        store(attempt=2, **other).load(name)


def test_folds_have_their_own(pod: Pod, store: Callable[..., Checkpoints]) -> None:
    name = write(store(fold={"index": 2, "folds": 5}), 1)
    assert (pod.checkpoints / "folds/2" / f"{name}.json").is_file()
    assert store().newest() == ""


def test_the_last_ones_are_kept_over_all_attempts(pod: Pod, store: Callable[..., Checkpoints]) -> None:
    for epoch in range(1, 5):
        write(store(), epoch)
    kept = {path.name for path in (pod.checkpoints / "a1").iterdir()}
    assert kept == {f"e00000{epoch}-s000000000-pod-0.{kind}" for epoch in (3, 4) for kind in ("npz", "json")}
    second = store(attempt=2)
    assert len(list((pod.checkpoints / "a1").iterdir())) == 4
    write(second, 5)
    assert store(attempt=2).newest().startswith("a2/e000005")
    assert len(files(pod.checkpoints)) == 4
    write(second, 6)
    assert {path.name for path in pod.checkpoints.iterdir()} == {"a2"}


def test_a_pod_that_began_anew_keeps_its_own_and_not_what_it_could_not_read(
    pod: Pod, store: Callable[..., Checkpoints]
) -> None:
    for epoch in (8, 9):
        (pod.checkpoints / f"{write(store(), epoch)}.npz").write_bytes(b"broken")
    again = store(name="pod-9")
    names = [write(again, epoch) for epoch in (1, 2)]
    assert store().newest() == names[1]
    assert len(files(pod.checkpoints)) == 4


def test_what_a_killed_pod_left_half_written_is_no_checkpoint_and_goes(
    pod: Pod, store: Callable[..., Checkpoints]
) -> None:
    (pod.checkpoints / "a1").mkdir()
    for name in (".tmp-e000001-s000000000-dead.npz", "e000002-s000000000-dead.npz"):
        (pod.checkpoints / "a1" / name).write_bytes(b"half")
    assert store(attempt=2).newest() == ""
    write(store(attempt=2), 1)
    assert sorted(files(pod.checkpoints)) == [
        f"a2/e000001-s000000000-pod-0.{kind}" for kind in ("json", "npz")
    ]


def test_two_pods_of_one_attempt_never_clash(pod: Pod, store: Callable[..., Checkpoints]) -> None:
    first, second = write(store(name="a"), 1), write(store(name="b"), 1)
    assert first != second
    assert {store().load(name).note.epoch for name in (first, second)} == {1}


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """As a volume on which files can have no more than `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 100, 1000])
def test_a_full_volume_leaves_nothing_half_written(
    pod: Pod, store: Callable[..., Checkpoints], size: int
) -> None:
    name = write(store(), 1)
    before = files(pod.checkpoints)
    with room_for(size), pytest.raises(WorkloadError, match="could not write a checkpoint") as caught:
        write(store(), 20)  # its arrays have less than 1,000 bytes, its note more
    assert (caught.value.reason, caught.value.terminal) == (Failure.STORAGE_FAILED, False)
    assert files(pod.checkpoints) == before
    assert store(attempt=2).newest() == name


def test_a_volume_that_can_t_be_written_is_named(pod: Pod, store: Callable[..., Checkpoints]) -> None:
    (pod.checkpoints / "a1").write_text("not a folder")
    with pytest.raises(WorkloadError, match="could not write a checkpoint") as caught:
        write(store(), 1)
    assert caught.value.reason == Failure.STORAGE_FAILED


def test_only_names_of_checkpoints_are_read(store: Callable[..., Checkpoints]) -> None:
    with pytest.raises(WorkloadError, match="names no checkpoint"):
        store().load("../../models/e000001-s000000000-pod-0")
