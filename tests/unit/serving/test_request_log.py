"""Requests kept for later training: what is written, what is cleared away, what a bad volume does."""

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from lepton_workloads.contract.data import Normalization, Picture
from lepton_workloads.decode import decode_picture, normalize
from lepton_workloads.prepare.sources import FolderSource, open_folder
from lepton_workloads.serve.caller import Caller
from lepton_workloads.serve.request_log import writer as writer_module
from lepton_workloads.serve.request_log.folder import MARKER_FILE, Folder
from lepton_workloads.serve.request_log.record import Answer, as_pixels, file_of, folder_name
from lepton_workloads.serve.request_log.retention import Part, is_day, is_old, is_part, too_much
from lepton_workloads.serve.request_log.writer import QUEUE_ANSWERS, Writer
from tests.unit.serving.request_logs import files, lines, whole
from tests.unit.serving.support import DEADLINE_SECONDS, LABELS, SHAPE, SIGNATURE, picture, until

NORMALIZATION = SIGNATURE.preprocessing.normalization
POD = "digits-7f9c-x2x4q"
HOUR = datetime(2026, 11, 30, 6, 15, tzinfo=UTC)


def answer(
    *pictures: bytes, inputs: np.ndarray | None = None, when: datetime = HOUR, best: int = 1, **caller: str
) -> Answer:
    """An answer that gives each input the label number `best`."""
    count = len(pictures) if inputs is None else len(inputs)
    probabilities = np.full((count, len(LABELS)), 0.1, np.float32)
    probabilities[:, best] = 0.7
    return Answer(when.timestamp(), Caller(**caller), probabilities, list(pictures), inputs, 100)


class Log:
    """A writer with metrics that can be read."""

    def __init__(self, root: Path, room: int = 1024**2, pod: str = POD, days: int = 30) -> None:
        self.registry = CollectorRegistry()
        self.folder = Folder(root, pod, days, room // 16)
        self.writer = Writer(
            self.folder, room, LABELS, {"model": "digits", "version": "v"}, NORMALIZATION, self.registry
        )

    def value(self, name: str, **labels: str) -> float:
        value = self.registry.get_sample_value(f"lepton_server_request_log_{name}", labels)
        assert value is not None, "each series is there from the start"
        return value

    def count(self, result: str) -> float:
        return self.value("records_total", result=result)

    @contextmanager
    def folder_held(self) -> Iterator[None]:
        """The writer stands still in its next step, as on a volume that hangs."""
        begin, held, release = self.folder.write, threading.Event(), threading.Event()

        def wait(*args: Any) -> PurePosixPath:
            held.set()
            assert release.wait(DEADLINE_SECONDS)
            return begin(*args)

        self.folder.write = wait  # type: ignore[method-assign]
        self.writer.put(answer(picture()))
        assert held.wait(DEADLINE_SECONDS)
        yield
        release.set()

    def write(self, *answers: Answer) -> None:
        """Puts answers and waits until all have ended."""
        for one in answers:
            before = sum(self.count(result) for result in ("written", "failed", "dropped"))
            self.writer.put(one)
            wanted = before + len(one.probabilities)
            until(
                lambda wanted=wanted: (
                    sum(self.count(result) for result in ("written", "failed", "dropped")) >= wanted
                ),
                "the writer",
            )


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Log]]:
    made: list[Log] = []

    def build(root: Path = tmp_path, **fields: Any) -> Log:
        made.append(Log(root, **fields))
        return made[-1]

    yield build
    for log in made:
        log.writer.close(time.monotonic() + 10)


Make = Callable[..., Log]


def test_a_picture_is_kept_as_it_was_sent_with_its_answer(make: Make, tmp_path: Path) -> None:
    log = make()
    log.write(
        answer(
            picture("JPEG"),
            source="gate 3",
            request_id="r-1",
            traceparent=f"00-{'4b' * 16}-{'00f0' * 4}-01",
        )
    )
    part = tmp_path / POD / "2026-11-30" / "06-000"
    [line] = lines(part)
    assert line["file"].startswith("pictures/bee/20261130T061500000-")
    assert line["file"].endswith(".jpg")
    assert (part / line["file"]).read_bytes() == picture("JPEG")
    assert line == {
        "time": "2026-11-30T06:15:00.000Z",
        "file": line["file"],
        "label": "bee",
        "probability": 0.7,
        "top": [
            {"label": "bee", "probability": 0.7},
            *({"label": label, "probability": 0.1} for label in ("ant", "cat", "dög")),
        ],
        "sent": "picture",
        "model": "digits",
        "version": "v",
        "source": "gate 3",
        "requestId": "r-1",
        "traceId": "4b" * 16,
    }
    assert log.value("stored_bytes") == log.value("written_bytes_total") == whole(part)


@pytest.mark.parametrize(
    ("kind", "suffix"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("BMP", "bmp"), ("GIF", "gif")]
)
def test_files_have_the_suffix_of_their_format(kind: str, suffix: str) -> None:
    assert file_of(answer(picture(kind)), 0, NORMALIZATION).suffix == suffix


@pytest.mark.parametrize("channels", [1, 3])
def test_numbers_that_are_pixels_become_a_picture_that_gives_them_back(channels: int) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (2, 6, 8, channels), dtype=np.uint8)
    for normalization in (Normalization(), NORMALIZATION):
        inputs = normalize(pixels, normalization)
        file = file_of(answer(inputs=inputs), 1, normalization)
        assert (file.folder, file.suffix) == ("pictures", "png")
        target = Picture(height=6, width=8, channels=channels, fit="stretch")  # type: ignore[arg-type]
        again = normalize(decode_picture(file.data, target)[None], normalization)
        np.testing.assert_array_equal(again[0], inputs[1])


@pytest.mark.parametrize("value", [0.3, -7.0, 3e38, np.inf, np.nan])
def test_other_numbers_become_npy(value: float) -> None:
    inputs = np.zeros((1, *SHAPE), np.float32)
    inputs[0, 0, 0, 0] = value
    file = file_of(answer(inputs=inputs), 0, Normalization())
    assert (file.folder, file.suffix) == ("numbers", "npy")
    np.testing.assert_array_equal(np.load(io.BytesIO(file.data), allow_pickle=False), inputs[0])
    assert as_pixels(np.zeros((4, 4, 2), np.float32), Normalization()) is None


def test_the_log_is_a_source_of_pictures(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "lepton" / "source"
    root.mkdir(parents=True)
    log = make(root)
    log.write(answer(picture(), best=1), answer(picture("JPEG"), best=3))
    monkeypatch.setenv("LEPTON_ROOT", str(tmp_path))
    source = open_folder(f"{POD}/2026-11-30/06-000/pictures")
    assert isinstance(source, FolderSource)
    assert source.labels == ["bee", "dög"]
    assert [item.label for item in source.items] == [0, 1]


def test_nothing_of_a_client_is_in_a_name(make: Make, tmp_path: Path) -> None:
    log = make()
    hostile = "../../../etc/passwd"
    log.write(answer(picture(), source=hostile, request_id=hostile))
    [part] = (tmp_path / POD / "2026-11-30").iterdir()
    [line] = lines(part)
    assert (line["source"], line["requestId"]) == (hostile, hostile)
    assert all("passwd" not in path.name for path in tmp_path.rglob("*"))


@given(st.text(min_size=1, max_size=300))
def test_any_label_is_the_name_of_one_folder(label: str) -> None:
    try:
        label.encode()
    except UnicodeEncodeError:
        return
    name = folder_name(label)
    assert PurePosixPath(name).parts == (name,)
    assert name not in (".", "..")
    assert not name.startswith(".")
    assert name.isprintable()
    assert len(name.encode()) <= 200


def test_labels_have_folders_of_their_own() -> None:
    labels = ["a/b", "a%2Fb", "..", ".", "%2E", "a\nb", "x" * 300, "x" * 299, "dög", "a b"]
    assert len({folder_name(label) for label in labels}) == len(labels)
    assert [folder_name(label) for label in ("dög", "a b", "7")] == ["dög", "a b", "7"]


def test_a_part_ends_with_its_hour(make: Make, tmp_path: Path) -> None:
    log = make()
    times = [HOUR, HOUR + timedelta(minutes=44), HOUR + timedelta(minutes=45), HOUR + timedelta(days=1)]
    log.write(*[answer(picture(), when=when) for when in times])
    found = sorted(str(path.parent.relative_to(tmp_path / POD)) for path in tmp_path.rglob("answers.jsonl"))
    assert found == ["2026-11-30/06-000", "2026-11-30/07-000", "2026-12-01/06-000"]
    assert len(lines(tmp_path / POD / "2026-11-30" / "06-000")) == 2


def test_another_container_of_the_pod_goes_on_beside_what_is_there(make: Make, tmp_path: Path) -> None:
    first = make()
    first.write(answer(picture()))
    first.writer.close(time.monotonic() + 10)
    (tmp_path / POD / ".file.tmp").write_bytes(b"half a pic")
    second = make()
    second.write(answer(picture()))
    assert not (tmp_path / POD / ".file.tmp").exists()
    assert sorted(path.name for path in (tmp_path / POD / "2026-11-30").iterdir()) == ["06-000", "06-001"]
    assert second.value("stored_bytes") == whole(tmp_path / POD / "2026-11-30")


def test_the_oldest_goes_when_there_is_too_much(make: Make, tmp_path: Path) -> None:
    room = 64 * 1024
    log = make(room=room)
    data = picture(size=(40, 30))
    kept = -(-room // len(data))
    for number in range(3 * kept):
        log.write(answer(data, when=HOUR + timedelta(seconds=number), request_id=str(number)))
        assert whole(tmp_path / POD) <= room
        assert log.value("stored_bytes") == whole(tmp_path / POD)
    assert log.count("failed") == 0
    numbers = sorted(
        int(line["requestId"]) for path in (tmp_path / POD).rglob("06-*") for line in lines(path)
    )
    assert numbers == list(range(numbers[0], 3 * kept))
    assert len(numbers) > kept * 0.7
    assert len(files(tmp_path / POD)) == len(numbers)


def test_what_is_larger_than_all_of_the_room_is_not_kept(make: Make, tmp_path: Path) -> None:
    log = make(room=2000)
    log.write(answer(picture()), answer(picture(size=(60, 60))), answer(picture()))
    assert (log.count("written"), log.count("failed")) == (2, 1)


def test_days_that_are_too_old_go_at_the_start_and_those_of_pods_that_have_gone_too(
    make: Make, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    ages = {"old": 12, "edge": 10, "new": 0}
    days = {name: f"{now - timedelta(days=age):%Y-%m-%d}" for name, age in ages.items()}
    for pod, marker in ((POD, 10), ("gone", 10), ("patient", 20), ("strange", None)):
        for day in days.values():
            (tmp_path / pod / day / "06-000" / "pictures" / "bee").mkdir(parents=True)
            (tmp_path / pod / day / "06-000" / "pictures" / "bee" / "x.png").write_bytes(picture())
        (tmp_path / pod / "notes").mkdir()
        if marker:
            (tmp_path / pod / MARKER_FILE).write_text(f'{{"version": 1, "retentionDays": {marker}}}')
    log = make(days=10)
    until(lambda: not (tmp_path / POD / days["old"]).exists(), "the clearing away")
    until(lambda: not (tmp_path / "gone" / days["old"]).exists(), "the clearing away of the other pod")
    log.write(answer(picture(), when=now))
    for pod in ("patient", "strange"):
        assert (tmp_path / pod / days["old"] / "06-000" / "pictures" / "bee" / "x.png").exists()
    for pod in (POD, "gone"):
        assert (tmp_path / pod / days["edge"]).exists()
        assert (tmp_path / pod / days["new"]).exists()
        assert (tmp_path / pod / "notes").exists()


def test_the_folder_of_a_pod_that_has_gone_goes_with_its_last_day(make: Make, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    (gone / "2020-01-01" / "06-000").mkdir(parents=True)
    (gone / MARKER_FILE).write_text('{"version": 1, "retentionDays": 10}')
    folder = Folder(tmp_path, POD, 10, 1000)
    folder.open()
    folder.clear_away(datetime.now(UTC))
    assert gone.exists(), "something was removed from it just now"
    os.utime(gone, (0, 0))
    folder.clear_away(datetime.now(UTC))
    assert not gone.exists()
    folder.close()


def test_links_are_never_followed(make: Make, tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "requests"
    (outside / "2020-01-01" / "06-000").mkdir(parents=True)
    (outside / MARKER_FILE).write_text('{"version": 1, "retentionDays": 1}')
    (root / POD / "2026-11-30").mkdir(parents=True)
    (root / "other").symlink_to(outside)
    (root / POD / "2020-01-01").symlink_to(outside / "2020-01-01")
    (root / POD / "2026-11-29").symlink_to(outside)
    log = make(root)
    log.write(answer(picture()))
    assert log.count("written") == 1
    part = root / POD / "2026-11-30" / "06-000"
    (part / "pictures" / "cat").symlink_to(outside)
    log.write(answer(picture(), best=2))
    assert log.count("failed") == 1
    log.write(answer(picture(), when=HOUR - timedelta(days=1)))
    assert log.count("failed") == 2
    assert sorted(path.name for path in outside.rglob("*")) == [MARKER_FILE, "06-000", "2020-01-01"]
    assert len(lines(part)) == 1


def test_a_pod_s_folder_that_is_a_link_is_not_used(make: Make, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests" / POD).symlink_to(tmp_path / "outside")
    log = make(tmp_path / "requests")
    log.write(answer(picture()))
    assert log.count("failed") == 1
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_volume_that_cannot_be_written_costs_records_and_one_line(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = make(tmp_path / "nowhere")
    log.write(*[answer(picture())] * 5)
    assert log.count("failed") == 5
    assert len([record for record in caplog.records if record.message == "Failed to log a request"]) <= 2
    (tmp_path / "nowhere").mkdir()
    log.write(answer(picture()))
    assert log.count("written") == 1


def test_a_folder_that_was_removed_meanwhile_is_made_again(make: Make, tmp_path: Path) -> None:
    log = make()
    log.write(answer(picture()))
    (tmp_path / POD).rename(tmp_path / "moved")
    subprocess.run(["rm", "-r", tmp_path / "moved"], check=True)
    log.write(answer(picture()))
    assert (log.count("written"), log.count("failed")) == (2, 0)
    assert len(files(tmp_path / POD)) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_costs_records_and_leaves_nothing_half(small_disk: Path) -> None:
    log = Log(small_disk, room=16 * 1024**2)
    try:
        data = picture(size=(60, 50))
        while not log.count("failed"):
            log.write(answer(data))
        log.write(*[answer(data)] * 20)
        written = int(log.count("written"))
        assert log.count("failed") > 20
        [part] = (small_disk / POD / "2026-11-30").iterdir()
        assert len(lines(part)) == len(files(part)) == written
        assert all(file.read_bytes() == data for file in files(part))
        assert not (small_disk / POD / ".file.tmp").exists()
        assert log.value("stored_bytes") == whole(part)
        files(part)[0].unlink()
        files(part)[0].unlink()
        log.write(answer(data))
        assert log.count("written") == written + 1
    finally:
        log.writer.close(time.monotonic() + 10)


def test_what_is_too_much_for_the_queue_is_dropped(make: Make) -> None:
    log = make()
    log.write(answer(picture()))
    with log.folder_held():
        for _ in range(QUEUE_ANSWERS + 10):
            log.writer.put(answer(picture(), picture()))
        assert log.count("dropped") == 2 * 10
    log.writer.close(time.monotonic() + 30)
    assert log.count("written") == 2 + 2 * QUEUE_ANSWERS
    assert log.count("failed") == 0


def test_the_queue_is_bounded_in_bytes(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "QUEUE_BYTES", 250)
    log = make()
    log.write(answer(picture()))
    with log.folder_held():
        for _ in range(6):
            log.writer.put(answer(picture()))
        assert log.count("dropped") == 4


@given(
    st.dictionaries(
        st.builds(
            Part,
            st.dates(date(2020, 1, 1), date(2030, 1, 1)).map(str),
            st.builds("{:02d}-{:03d}".format, st.integers(0, 23), st.integers(0, 2000)),
        ),
        st.integers(0, 1000),
        max_size=30,
    ),
    st.integers(1, 5000),
    st.integers(0, 1000),
)
def test_no_more_goes_than_must_and_the_oldest_first(parts: dict[Part, int], room: int, wanted: int) -> None:
    gone = too_much(parts, room, wanted)
    left = {part: size for part, size in parts.items() if part not in gone}
    assert sum(left.values()) + wanted <= room or not left
    if gone:
        assert sum(left.values()) + parts[gone[-1]] + wanted > room
        assert all(part.day >= gone[-1].day for part in left)


def test_names_of_days_and_parts_are_told_from_others() -> None:
    assert is_day("2026-11-30")
    assert not any(map(is_day, ["20261130", "2026-13-01", "2026-11-30 ", "notes", "", "2026-W49-1"]))
    assert is_part("06-000")
    assert is_part("23-12345")
    assert not any(map(is_part, ["06", "6-000", "06-0", "06-00x", "٠٦-000", "-000", ""]))
    assert not is_old("2026-11-20", date(2026, 11, 30), 10)
    assert is_old("2026-11-19", date(2026, 11, 30), 10)


def test_the_script_of_the_manual_collects_all_pods_by_class(make: Make, tmp_path: Path) -> None:
    log, target = tmp_path / "requests", tmp_path / "sorted"
    log.mkdir()
    one, other = make(log), make(log, pod="digits-7f9c-other")
    one.write(answer(picture(seed=1), best=1), answer(picture(seed=2), best=3))
    other.write(answer(picture(seed=3), best=1), answer(inputs=np.full((1, *SHAPE), 0.3, np.float32)))
    with (log / POD / "2026-11-30" / "06-000" / "answers.jsonl").open("a") as file:
        file.write('{"time": "20')
    manual = Path(__file__).parents[3] / "docs" / "request-log.md"
    script = manual.read_text().split("```python\n")[1].split("```")[0]
    (tmp_path / "collect.py").write_text(script)
    for sure, folder in (("0.5", "sure"), ("0.9", "unsure")):
        subprocess.run([sys.executable, tmp_path / "collect.py", log, target, sure], check=True)
        found = {str(path.relative_to(target / folder).parent) for path in (target / folder).rglob("*.png")}
        assert found == {"bee", "dög"}
        assert len(list((target / folder).rglob("*.png"))) == 3
