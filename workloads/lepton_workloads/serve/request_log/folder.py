"""The pod's folder on the volume: `POD/DAY/HOUR-NUMBER/` with `answers.jsonl`, `pictures/LABEL/`, `numbers/LABEL/`.

A file appears whole by one rename, and after it its line by one write; a line that did not fit is taken back. Every
folder is opened from its parent's descriptor without following links: others may write to the volume. No name is made
of what a client sent. Nothing is fsynced: a node that loses power may lose the last half minute, a killed pod nothing
that was written.
"""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath

from lepton_workloads.serve.request_log.retention import Part, age, is_day, is_old, is_part

LINES_FILE = "answers.jsonl"
MARKER_FILE = ".lepton-requests.json"
"""Says that a folder is a pod's, and how long its days are kept: other pods clear away after one that has gone."""
TEMPORARY = ".file.tmp"
PART_FILES = 20_000
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Folder:
    """Writes one pod's files; for one thread."""

    def __init__(self, root: Path, pod: str, retention_days: int, part_bytes: int) -> None:
        """`part_bytes`: a new part begins when one holds so much, at the latest with each hour."""
        self._root = root
        self._pod = pod
        self._days = retention_days
        self._part_bytes = part_bytes
        self._open = ExitStack()
        self._home: int | None = None
        self._current = Part("", "")
        self._part = self._lines = -1
        """Descriptors of the current part and its lines."""
        self._files = 0
        self._looked = False
        self.parts: dict[Part, int] = {}
        """Bytes of each part that is there."""

    @property
    def is_open(self) -> bool:
        """Whether files can be written without a look at what is there."""
        return self._home is not None

    def open(self) -> None:
        """Makes the pod's folder; for the first time, also looks at what an earlier container of the pod left there.

        Raises:
            OSError: the volume can't be read or written.
        """
        self.close()
        with _opened(self._root, None) as root:
            home = _make(self._pod, root)
        self._open.callback(os.close, home)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(TEMPORARY, dir_fd=home)  # its writer was killed
        if not _exists(MARKER_FILE, home):
            marker = json.dumps({"version": 1, "retentionDays": self._days})
            self._publish(marker.encode(), home, home, MARKER_FILE)
        if not self._looked:
            self.parts = {part: _size(part, home) for part in _parts(home)}
            self._looked = True
        self._home = home

    def close(self) -> None:
        """Closes all descriptors; `open` may follow."""
        self._end_part()
        self._open.close()
        self._home = None

    def write(self, when: datetime, data: bytes, folder: PurePosixPath, name: str) -> PurePosixPath:
        """Writes a file to `folder` of the current part; where it is, relative to the part.

        Raises:
            OSError: it can't be written; nothing of it is there then.
        """
        home = self._begin_part(when)
        with ExitStack() as stack:
            parent = self._part
            for step in folder.parts:
                parent = _make(step, parent)
                stack.callback(os.close, parent)
            self._publish(data, home, parent, name)
        self._files += 1
        self.parts[self._current] += len(data)
        return folder / name

    def append(self, line: bytes, file: PurePosixPath, size: int) -> None:
        """Writes a line, after the file that it names (of `size` bytes).

        Raises:
            OSError: it can't be written; neither it nor its file is there then.
        """
        before = os.fstat(self._lines).st_size
        try:
            if os.write(self._lines, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), LINES_FILE)
        except OSError:
            with contextlib.suppress(OSError):  # the first error is the one that counts
                os.ftruncate(self._lines, before)
                with _opened(file.parts[0], self._part) as top, _opened(file.parts[1], top) as parent:
                    os.unlink(file.name, dir_fd=parent)
                self.parts[self._current] -= size
            raise
        self.parts[self._current] += len(line)

    def remove(self, part: Part) -> None:
        """Removes a part.

        Raises:
            OSError: it can't be removed.
        """
        if part == self._current:
            self._end_part()
        assert self._home is not None, "parts are known once the folder is open"
        with contextlib.suppress(FileNotFoundError), _opened(part.day, self._home) as day:
            shutil.rmtree(part.name, dir_fd=day)
        with contextlib.suppress(OSError):  # it holds other parts
            os.rmdir(part.day, dir_fd=self._home)
        self.parts.pop(part, None)

    def clear_away(self, now: datetime) -> None:
        """Removes days of all pods that are too old, by what their own markers say, and folders of pods that are empty.

        Raises:
            OSError: the volume can't be read or written.
        """
        for part in [part for part in self.parts if is_old(part.day, now.date(), self._days)]:
            self.remove(part)
        with _opened(self._root, None) as root:
            for pod in _folders(root):
                if pod != self._pod:
                    _clear_away_after(pod, root, now)

    def _begin_part(self, when: datetime) -> int:
        """Sees to it that the current part is that of this hour, and has room."""
        assert self._home is not None, "`open` comes first"
        day, hour = when.strftime("%Y-%m-%d"), when.strftime("%H")
        same_hour = (self._current.day, self._current.name[:2]) == (day, hour)
        if same_hour and self.parts[self._current] < self._part_bytes and self._files < PART_FILES:
            return self._home
        self._end_part()
        parent = _make(day, self._home)
        try:
            number = 1 + max(
                (age(part)[2] for part in self.parts if (part.day, part.name[:2]) == (day, hour)), default=-1
            )
            name = f"{hour}-{number:03d}"
            os.mkdir(name, 0o750, dir_fd=parent)
            try:
                self._part = os.open(name, _DIRECTORY, dir_fd=parent)
                self._lines = os.open(LINES_FILE, _NEW | os.O_APPEND, 0o640, dir_fd=self._part)
            except OSError:
                self._end_part()
                with contextlib.suppress(OSError):  # the first error is the one that counts
                    os.rmdir(name, dir_fd=parent)
                raise
        finally:
            os.close(parent)
        self._current = Part(day, name)
        self.parts[self._current] = 0
        return self._home

    def _end_part(self) -> None:
        for descriptor in (self._lines, self._part):
            if descriptor >= 0:
                os.close(descriptor)
        self._part = self._lines = -1
        self._current, self._files = Part("", ""), 0

    def _publish(self, data: bytes, home: int, parent: int, name: str) -> None:
        try:
            descriptor = os.open(TEMPORARY, _NEW, 0o640, dir_fd=home)
            with open(descriptor, "wb", buffering=0) as file:
                if file.write(data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
            os.rename(TEMPORARY, name, src_dir_fd=home, dst_dir_fd=parent)
        except OSError:
            with contextlib.suppress(OSError):  # the first error is the one that counts
                os.unlink(TEMPORARY, dir_fd=home)
            raise


def _clear_away_after(pod: str, root: int, now: datetime) -> None:
    """Old days of another pod; a folder without a marker is nobody's business."""
    with contextlib.suppress(FileNotFoundError), _opened(pod, root) as home:
        days = _marked_days(home)
        if days is None:
            return
        kept = 0
        for day in _folders(home):
            if is_day(day) and is_old(day, now.date(), days):
                shutil.rmtree(
                    day, ignore_errors=True, dir_fd=home
                )  # its own pod may do so at this very moment
            else:
                kept += 1
        if not kept and _is_stale(home, now, days):
            os.unlink(MARKER_FILE, dir_fd=home)
            with contextlib.suppress(OSError):  # it holds something else
                os.rmdir(pod, dir_fd=root)


def _is_stale(home: int, now: datetime, days: int) -> bool:
    return now.timestamp() - os.fstat(home).st_mtime > days * 86_400


def _marked_days(home: int) -> int | None:
    """`retentionDays` of a pod's marker; None where there is none that can be used."""
    try:
        descriptor = os.open(MARKER_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=home)
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        try:
            days = json.loads(file.read(4096))["retentionDays"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
    return days if isinstance(days, int) and 1 <= days <= 100_000 else None


def _parts(home: int) -> list[Part]:
    found = []
    for day in _folders(home):
        if is_day(day):
            with _opened(day, home) as descriptor:
                found += [Part(day, name) for name in _folders(descriptor) if is_part(name)]
    return found


def _size(part: Part, home: int) -> int:
    size = 0
    with _opened(part.day, home) as day:
        for _, _, files, descriptor in os.fwalk(part.name, dir_fd=day, follow_symlinks=False):
            for file in files:
                size += os.stat(file, dir_fd=descriptor, follow_symlinks=False).st_size
    return size


def _folders(descriptor: int) -> list[str]:
    """Names of the folders in a folder, without links."""
    with os.scandir(descriptor) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))


def _exists(name: str, parent: int) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _make(name: str, parent: int) -> int:
    """Descriptor of a folder, which is made if it isn't there."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):  # made this very moment
            os.mkdir(name, 0o750, dir_fd=parent)
        return os.open(name, _DIRECTORY, dir_fd=parent)


@contextmanager
def _opened(name: str | Path, parent: int | None) -> Iterator[int]:
    descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
