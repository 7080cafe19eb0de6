"""Where raw pictures come from: built-in digits, or a folder with one sub-folder a class."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

from lepton_workloads.builtin import Digits, load_digits
from lepton_workloads.contract.data import Picture
from lepton_workloads.contract.outcome import Failure
from lepton_workloads.contract.tasks import SOURCE_DIR, PrepareTask
from lepton_workloads.decode import MAX_FILE_BYTES, DecodeError, Pixels, decode_picture, fit_pixels
from lepton_workloads.logs import Log
from lepton_workloads.paths import place
from lepton_workloads.storage import storage_errors
from lepton_workloads.termination import WorkloadError, printable

NO_PICTURES = frozenset({
    ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".rst", ".html", ".htm",
    ".pdf", ".log", ".ini", ".cfg", ".db", ".py", ".ipynb", ".npy", ".npz", ".zip", ".tar", ".gz",
    ".mat", ".pkl", ".parquet", ".doc", ".docx", ".xls", ".xlsx",
})  # fmt: skip
"""Suffixes that are ignored. All else is tried, so that a picture of another format is named, not dropped."""
NO_CLASSES = frozenset({"lost+found", "__MACOSX", "@eaDir"})
"""Folders that file systems and tools leave behind."""

log = Log(__name__)


class Item(NamedTuple):
    """A raw picture: its name (unique, below the source) and its class."""

    name: str
    label: int


class Source(Protocol):
    """Raw pictures of labelled classes."""

    labels: list[str]
    items: list[Item]
    """Sorted by name."""

    def digest(self, name: str) -> str:
        """sha256 (hex) of the raw picture, empty when it can't be read."""

    def pixels(self, name: str, digest: str, picture: Picture) -> Pixels:
        """Decoded and fitted pixels.

        Raises:
            DecodeError: no usable picture.
            WorkloadError: it is not what `digest` was taken of.
        """


class DigitsSource:
    """The built-in digits; they differ from files only in that there is nothing to decode."""

    def __init__(self, digits: Digits) -> None:
        self._pixels = dict(zip(digits.names, digits.images, strict=True))
        self.labels = [str(label) for label in range(10)]
        self.items = sorted(
            Item(name, int(label)) for name, label in zip(digits.names, digits.labels, strict=True)
        )

    def digest(self, name: str) -> str:
        return hashlib.sha256(self._pixels[name].tobytes()).hexdigest()

    def pixels(self, name: str, digest: str, picture: Picture) -> Pixels:
        return fit_pixels(self._pixels[name], picture)


@dataclass
class FolderSource:
    """An image folder: one sub-folder a class, its name is the label."""

    root: Path
    labels: list[str]
    items: list[Item]

    def digest(self, name: str) -> str:
        try:
            with (self.root / name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except (PermissionError, FileNotFoundError):
            return ""

    def pixels(self, name: str, digest: str, picture: Picture) -> Pixels:
        if not digest:
            raise DecodeError("the file can't be read: permission denied, or it has gone")
        with storage_errors(f"read {name}"), (self.root / name).open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) <= MAX_FILE_BYTES and hashlib.sha256(data).hexdigest() != digest:
            raise WorkloadError(
                Failure.INVALID_DATA,
                printable(f"{name} changed while it was prepared: leave the folder alone, or copy it first"),
                terminal=False,
            )
        return decode_picture(data, picture)


def open_source(task: PrepareTask) -> Source:
    """The task's source.

    Raises:
        WorkloadError: SourceNotFound, InvalidData (no classes, an empty class, a folder without permission).
    """
    return open_digits() if task.builtin == "digits" else open_folder(task.source_path or "")


def open_reader(task: PrepareTask) -> Source:
    """The task's source for reading planned items by name: a folder's files are not listed again."""
    return (
        open_digits() if task.builtin == "digits" else FolderSource(find_root(task.source_path or ""), [], [])
    )


def open_digits() -> DigitsSource:
    """The built-in digits.

    Raises:
        WorkloadError: SourceNotFound, the image was built without them.
    """
    try:
        return DigitsSource(load_digits())
    except FileNotFoundError as error:
        text = "the built-in digits are not in this image: use the server image of the same version"
        raise WorkloadError(Failure.SOURCE_NOT_FOUND, text, terminal=True) from error


def find_root(source_path: str) -> Path:
    """The folder `source_path` below SOURCE_DIR.

    Raises:
        WorkloadError: SourceNotFound, also when the path or a link leaves the claim.
    """
    base = place(SOURCE_DIR)
    root = base / source_path
    inside = root.resolve().is_relative_to(base.resolve())
    if not inside or ".." in PurePosixPath(source_path).parts or not root.is_dir():
        text = (
            f"{_shown(source_path)} is not on the claim: write a path from the claim's root, like photos/2026"
        )
        raise WorkloadError(Failure.SOURCE_NOT_FOUND, printable(text), terminal=True)
    return root


def open_folder(source_path: str) -> FolderSource:
    """Read the folder `source_path` below SOURCE_DIR; classes and files are sorted by name.

    Raises:
        WorkloadError: see `open_source`.
    """
    root, shown = find_root(source_path), _shown(source_path)
    ignored: Counter[str] = Counter()
    labels = _class_folders(root, ignored)
    if not labels:
        raise _invalid(f"{shown} holds no folders: make one folder a class, named as the class")
    items: list[Item] = []
    empty: list[str] = []
    for index, label in enumerate(labels):
        names = sorted(_files(root / label, root, ignored))
        items += [Item(name, index) for name in names]
        empty += [] if names else [label]
    if ignored:
        log.info("Ignored entries that are no pictures", counts=dict(ignored))
    if not items:
        raise _invalid(f"{shown} holds no pictures: put JPEG, PNG, WebP, BMP or GIF files into its folders")
    if empty:
        raise _invalid(f"{len(empty)} classes hold no pictures, for example {', '.join(empty[:5])}")
    if len(labels) == 1:
        raise _invalid(f"there is one class only ('{labels[0]}'): a classifier needs at least two folders")
    return FolderSource(root, labels, items)


def _class_folders(root: Path, ignored: Counter[str]) -> list[str]:
    labels = []
    for entry in _entries(root, root, ignored):
        if not entry.is_dir() or entry.name in NO_CLASSES:
            ignored["beside the classes"] += 1
            continue
        try:
            entry.name.encode()
        except UnicodeEncodeError:
            raise _invalid(f"the name of folder '{entry.name}' is not UTF-8: rename it") from None
        labels.append(entry.name)
    return sorted(labels)


def _files(folder: Path, root: Path, ignored: Counter[str]) -> Iterator[str]:
    """Names below `root` of what may be pictures in `folder` and the folders in it."""
    pending, seen = [folder], {folder.resolve()}
    while pending:
        for entry in _entries(pending.pop(), root, ignored):
            path = Path(entry.path)
            if entry.is_dir():
                if path.resolve() not in seen and entry.name not in NO_CLASSES:  # links may form a ring
                    seen.add(path.resolve())
                    pending.append(path)
            elif not entry.is_file():
                ignored["not a file"] += 1
            elif path.suffix.lower() in NO_PICTURES or entry.name == "Thumbs.db":
                ignored[path.suffix.lower()] += 1
            else:
                yield path.relative_to(root).as_posix()


def _entries(folder: Path, root: Path, ignored: Counter[str]) -> Iterator[os.DirEntry[str]]:
    """Entries of a folder, without hidden ones and without links that leave the source."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    ignored["hidden"] += 1
                elif entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(root.resolve()):
                    ignored["link that leaves the folder"] += 1
                else:
                    yield entry
    except PermissionError:
        name = folder.relative_to(root).as_posix()
        raise _invalid(f"folder '{name}' can't be read: make it readable for the pod's group") from None


def _shown(source_path: str) -> str:
    return f"folder '{source_path}'" if source_path else "the claim's root folder"


def _invalid(message: str) -> WorkloadError:
    return WorkloadError(Failure.INVALID_DATA, printable(message), terminal=True)
