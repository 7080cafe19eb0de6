"""Preparation end to end in temporary folders: what is written, what is refused, what survives a crash."""

import errno
import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton_workloads.contract.data import DatasetManifest, SplitName
from lepton_workloads.contract.outcome import Failure, PrepareResult
from lepton_workloads.decode import DECODER, decode_picture
from lepton_workloads.prepare import finish, peers, run
from lepton_workloads.storage import publish_folder, remove_stale
from lepton_workloads.termination import WorkloadError

from .conftest import Pod, png

FilesOf = Callable[[Path], dict[str, bytes]]


@pytest.fixture(autouse=True)
def _quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "POLL_SECONDS", 0.01)


def prepared(pod: Pod, **fields: Any) -> PrepareResult:
    result = pod.prepare(**fields).prepare
    assert result is not None
    return result


def refused(pod: Pod, **fields: Any) -> WorkloadError:
    with pytest.raises(WorkloadError) as caught:
        pod.prepare(**fields)
    return caught.value


def manifest_of(pod: Pod, key: str) -> DatasetManifest:
    return DatasetManifest.model_validate_json((pod.datasets / key / "dataset.json").read_text())


def in_parallel(pod: Pod, parallelism: int, **fields: Any) -> list[Any]:
    """Results or errors of all indexes, run at once."""
    task = pod.task(parallelism=parallelism, **fields)
    results: list[Any] = [None] * parallelism

    def work(index: int) -> None:
        try:
            results[index] = pod.index(task, index).run()
        except WorkloadError as error:
            results[index] = error

    threads = [threading.Thread(target=work, args=(index,)) for index in range(parallelism)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_an_image_folder_becomes_records_that_hold_the_decoded_files(pod: Pod) -> None:
    folder = pod.image_folder()
    result = prepared(pod)
    assert (result.samples, result.classes, result.reused) == (30, 3, False)
    assert (result.train, result.validation, result.test) == (24, 3, 3)
    assert result.labels == ["class-0", "class-1", "class-2"]
    assert pod.entries() == [result.key]
    final = pod.datasets / result.key
    manifest = manifest_of(pod, result.key)
    assert manifest.decoder == DECODER
    assert manifest.splits[SplitName.TRAIN].per_class == [8, 8, 8]
    assert result.bytes == sum(path.stat().st_size for path in final.iterdir())
    seen = []
    for split in SplitName:
        names = [json.loads(line) for line in (final / f"{split}.files").read_text().splitlines()]
        images = np.fromfile(final / f"{split}.images", np.uint8).reshape(-1, 8, 8, 3)
        labels = np.fromfile(final / f"{split}.labels", "<i4")
        for name, pixels, label in zip(names, images, labels, strict=True):
            assert name.startswith(f"class-{label}/")
            picture = decode_picture((folder / name).read_bytes(), manifest.picture)
            assert np.array_equal(pixels, picture)
        seen += names
    assert len(set(seen)) == 30


def test_built_in_digits(pod: Pod) -> None:
    pod.use_digits()
    result = prepared(pod, builtin="digits", sourcePath=None)
    assert (result.samples, result.classes, result.invalid_files) == (1797, 10, 0)
    assert result.labels == [str(digit) for digit in range(10)]


def test_missing_built_in_digits_are_named(pod: Pod) -> None:
    error = refused(pod, builtin="digits", sourcePath=None)
    assert (error.reason, error.terminal) == (Failure.SOURCE_NOT_FOUND, True)


def test_equal_input_is_not_prepared_again(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    pod.image_folder()
    first = prepared(pod)
    monkeypatch.setattr(run, "write_part", lambda *_: pytest.fail("work was repeated"))
    again = prepared(pod, jobKey="another-job", dataset="ns/other", peerDeadlineSeconds=1)
    assert again == first.model_copy(update={"reused": True})
    assert pod.entries() == [first.key]


@pytest.mark.parametrize(
    "change",
    [
        {"picture": {"height": 9, "width": 8}},
        {"picture": {"height": 8, "width": 8, "fit": "crop"}},
        {"split": {"seed": 8}},
        {"normalization": {"scale": 1.0}},
    ],
)
def test_what_changes_the_dataset_changes_the_key(pod: Pod, change: dict[str, Any]) -> None:
    pod.image_folder()
    assert prepared(pod).key != prepared(pod, **change).key


def test_a_changed_or_renamed_file_changes_the_key(pod: Pod) -> None:
    folder = pod.image_folder()
    keys = {prepared(pod).key}
    (folder / "class-0/000.png").write_bytes(png(99))
    keys.add(prepared(pod).key)
    (folder / "class-0/000.png").rename(folder / "class-0/zzz.png")
    keys.add(prepared(pod).key)
    assert len(keys) == 3


def test_several_indexes_write_the_same_bytes_as_one(pod: Pod, files_of: FilesOf) -> None:
    pod.image_folder(each=7)
    key = prepared(pod).key
    alone = files_of(pod.datasets / key)
    (pod.datasets / key).rename(pod.root / "alone")
    results = in_parallel(pod, 4)
    assert results[0].key == key
    assert results[1:] == [None, None, None]
    assert files_of(pod.datasets / key) == alone
    assert pod.entries() == [key]
    reused = in_parallel(pod, 4)
    assert reused[0].reused
    assert reused[1:] == [None, None, None]
    assert pod.entries() == [key]


def test_a_missing_index_is_named_and_its_late_start_ends_the_job(pod: Pod) -> None:
    pod.image_folder()
    error = refused(pod, parallelism=3, peerDeadlineSeconds=0)
    assert (error.reason, error.terminal) == (Failure.PEERS_NOT_READY, False)
    assert "index 1, 2 of the preparation" in error.message
    task = pod.task(parallelism=3)
    for index in (1, 2):
        assert pod.index(task, index).run() is None
    assert prepared(pod, parallelism=3).samples == 30


def test_an_index_without_a_leader_gives_up(pod: Pod) -> None:
    pod.image_folder()
    with pytest.raises(WorkloadError, match="index 0 of the preparation"):
        pod.index(pod.task(parallelism=2, peerDeadlineSeconds=0), 1).run()


@pytest.mark.parametrize("at", ["write_plan", "write_part", "finish"])
def test_a_crash_in_the_middle_is_made_good_by_the_next_try(pod: Pod, at: str, files_of: FilesOf) -> None:
    pod.image_folder()
    undisturbed = prepared(pod, jobKey="other")
    expected = files_of(pod.datasets / undisturbed.key)
    (pod.datasets / undisturbed.key).rename(pod.root / "expected")

    class Killed(BaseException):
        """Nothing catches it, as SIGKILL."""

    def kill(*_: Any) -> None:
        raise Killed

    with pod.monkeypatch.context() as patch:
        patch.setattr(run, at, kill)
        with pytest.raises(Killed):
            pod.prepare()
    assert pod.entries() == [".tmp-d-data-abc"]
    assert prepared(pod) == undisturbed
    assert files_of(pod.datasets / undisturbed.key) == expected
    assert pod.entries() == [undisturbed.key]


def test_a_crash_while_joining_leaves_nothing_half(pod: Pod) -> None:
    pod.image_folder()

    class Killed(BaseException):
        """Nothing catches it, as SIGKILL."""

    def kill(*_: Any) -> None:
        raise Killed

    with pod.monkeypatch.context() as patch:
        patch.setattr(finish, "sync_tree", kill)
        with pytest.raises(Killed):
            pod.prepare()
    assert pod.entries() == [".tmp-d-data-abc"]
    result = prepared(pod)
    assert pod.entries() == [result.key]


def test_the_rename_replaces_an_empty_folder(pod: Pod) -> None:
    pod.image_folder()
    key = prepared(pod).key
    (pod.datasets / key).rename(pod.root / "old")
    (pod.datasets / key).mkdir()
    result = prepared(pod)
    assert (result.key, result.reused) == (key, False)


def test_of_two_racing_renames_one_wins_and_both_are_well(pod: Pod) -> None:
    for name in ("one", "two"):
        (pod.datasets / name).mkdir()
        (pod.datasets / name / "dataset.json").write_text("{}")
    assert publish_folder(pod.datasets / "one", pod.datasets / "key", "dataset.json")
    assert not publish_folder(pod.datasets / "two", pod.datasets / "key", "dataset.json")
    assert pod.entries() == ["key"]


def test_few_corrupt_files_are_set_aside_and_counted(pod: Pod) -> None:
    folder = pod.image_folder(each=20)
    (folder / "class-1/003.png").write_bytes(b"no picture")
    (folder / "class-2/004.png").write_bytes(png(1)[:100])
    result = prepared(pod, maxInvalidFraction=0.05)
    assert (result.samples, result.invalid_files) == (58, 2)
    manifest = manifest_of(pod, result.key)
    assert [bad.path for bad in manifest.invalid_examples] == ["class-1/003.png", "class-2/004.png"]
    assert sum(info.samples for info in manifest.splits.values()) == 58
    assert prepared(pod, maxInvalidFraction=0.05).reused
    stricter = refused(pod, maxInvalidFraction=0.01)
    assert stricter.reason == Failure.INVALID_DATA


def test_too_many_corrupt_files_are_named(pod: Pod) -> None:
    folder = pod.image_folder()
    for index in range(7):
        (folder / f"class-0/{index:03d}.png").write_bytes(b"no picture")
    error = refused(pod)
    assert (error.reason, error.terminal) == (Failure.INVALID_DATA, True)
    assert "7 of 30 files can't be used" in error.message
    assert "class-0/000.png: the file is not a JPEG" in error.message
    assert "and 2 more" in error.message
    assert pod.entries() == []


def test_a_missing_folder_is_named(pod: Pod) -> None:
    for path in ("photos", "../datasets", "a/../../models"):
        error = refused(pod, sourcePath=path)
        assert (error.reason, error.terminal) == (Failure.SOURCE_NOT_FOUND, True)
        assert f"folder '{path}' is not on the claim" in error.message


def test_folders_that_are_no_classes_are_refused_with_a_sentence(pod: Pod) -> None:
    (pod.source / "photos").mkdir()
    assert "holds no folders" in refused(pod).message
    (pod.source / "photos/a").mkdir()
    (pod.source / "photos/a/readme.txt").write_text("nothing")
    assert "holds no pictures" in refused(pod).message
    (pod.source / "photos/a/1.png").write_bytes(png(1))
    error = refused(pod)
    assert error.reason == Failure.INVALID_DATA
    assert "one class only ('a')" in error.message
    (pod.source / "photos/b").mkdir()
    assert "1 classes hold no pictures, for example b" in refused(pod).message


def test_too_few_pictures_for_the_test_split_are_refused(pod: Pod) -> None:
    pod.image_folder(classes=2, each=1)
    assert "too few: none is left for the validation split" in refused(pod).message


def test_hidden_files_notes_and_leftovers_are_no_pictures(pod: Pod) -> None:
    folder = pod.image_folder()
    key = prepared(pod).key
    for name in (".DS_Store", "notes.txt", "class-0/.hidden.png", "class-0/index.csv", "class-1/Thumbs.db"):
        (folder / name).write_bytes(b"x")
    (folder / "lost+found").mkdir()
    assert prepared(pod).key == key


def test_pictures_of_another_format_are_counted_not_dropped(pod: Pod) -> None:
    (pod.image_folder() / "class-0/scan.tiff").write_bytes(b"II*\0")
    assert "class-0/scan.tiff" in refused(pod).message


def test_links_are_followed_only_inside_the_folder(pod: Pod) -> None:
    folder = pod.image_folder()
    outside = pod.root / "secret.png"
    outside.write_bytes(png(5))
    (folder / "class-0/outside.png").symlink_to(outside)
    (folder / "class-0/inside.png").symlink_to(folder / "class-1/000.png")
    (folder / "class-0/ring").symlink_to(folder / "class-0")
    (folder / "stolen").symlink_to(pod.root)
    assert prepared(pod).samples == 31
    (pod.source / "way-out").symlink_to(pod.root)
    assert refused(pod, sourcePath="way-out").reason == Failure.SOURCE_NOT_FOUND


def test_nested_files_belong_to_their_class(pod: Pod) -> None:
    folder = pod.image_folder()
    (folder / "class-0/2026/may").mkdir(parents=True)
    (folder / "class-0/2026/may/1.png").write_bytes(png(7))
    result = prepared(pod)
    assert result.samples == 31
    assert result.classes == 3


def test_a_file_that_changes_while_it_is_prepared_is_another_try(pod: Pod) -> None:
    folder = pod.image_folder()
    hash_inputs = run.hash_inputs

    def then_change(*args: Any) -> list[str]:
        digests = hash_inputs(*args)
        (folder / "class-0/000.png").write_bytes(png(4242))
        return digests

    pod.monkeypatch.setattr(run, "hash_inputs", then_change)
    error = refused(pod)
    assert (error.reason, error.terminal) == (Failure.INVALID_DATA, False)
    assert "class-0/000.png changed" in error.message


def test_a_full_volume_says_what_to_do(pod: Pod) -> None:
    pod.image_folder()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", "train.images")

    pod.monkeypatch.setattr(run, "write_part", full)
    error = refused(pod)
    assert (error.reason, error.terminal) == (Failure.STORAGE_FAILED, False)
    assert "the volume is full: enlarge the claim" in error.message
    assert pod.entries() == []


def test_long_and_strange_labels_fit_the_termination_message(pod: Pod) -> None:
    for index in range(70):
        folder = pod.source / "photos" / f"{'語' * 60}{index:03d}"
        folder.mkdir(parents=True)
        for number in range(3):
            (folder / f"{number}.png").write_bytes(png(index * 10 + number))
    result = prepared(pod)
    assert (result.classes, len(result.labels)) == (70, 64)
    assert max(len(label) for label in result.labels) == 40


def test_leftovers_of_killed_jobs_go_after_a_day(pod: Pod) -> None:
    datasets = pod.root / "lepton/datasets"
    for name in (".tmp-old", ".tmp-new", "published"):
        (datasets / name).mkdir()
        (datasets / name / "part-0").touch()
    yesterday = time.time() - 25 * 3600
    for path in (datasets / ".tmp-old/part-0", datasets / ".tmp-old", datasets / "published"):
        os.utime(path, (yesterday, yesterday))
    remove_stale(datasets)
    assert {path.name for path in datasets.iterdir()} == {".tmp-new", "published"}


def test_parts_of_complete_indexes_outlive_a_failed_join(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    pod.image_folder()
    task = pod.task(parallelism=2)

    def full(*_: Any) -> str:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr("lepton_workloads.prepare.finish._join", full)
        with ThreadPoolExecutor(2) as pool:
            leader = pool.submit(pod.index(task, 0).run)
            pool.submit(pod.index(task, 1).run).result(timeout=60)
            assert isinstance(leader.exception(timeout=60), WorkloadError)
    # Index 1 is complete and never runs again; the next try of index 0 uses its part.
    result = pod.index(task, 0).run()
    assert result is not None
    assert not list((pod.root / "lepton/datasets").glob(".tmp-*"))
