"""Reads an artifact out of a tar archive that comes from outside; nothing is ever unpacked by its own name.

What an archive may do to a careless reader, and what stands against it here: names that leave the folder,
links and devices (refused, whatever they point to), many or huge members (counted and added up before they
are read), headers that claim gigabytes (`_Bounded`), the same name twice (refused).
"""

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

MAX_MEMBERS = 10_000
MAX_READ_BYTES = 1024**2
"""A reader of members reads in smaller pieces; only a long-name or extended header asks for more at once."""
_GZIP_MAGIC = b"\x1f\x8b"


class BadArchive(ValueError):
    """The archive is damaged, dangerous or too large; the text is a sentence."""


class Opener(Protocol):
    """Opens a file of an artifact by its name, for reading."""

    def __call__(self, name: str) -> IO[bytes]:
        """Raises FileNotFoundError when the artifact has no such file."""
        ...


@contextmanager
def open_archive(file: Path, marker: str, max_bytes: int) -> Iterator[Opener]:
    """The artifact in a .tar or .tar.gz: the folder that holds `marker`, at the top or one level below.

    Raises:
        BadArchive: also while the opened files are read.
    """
    try:
        with file.open("rb") as raw:
            packed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            stream: Any = gzip.GzipFile(fileobj=raw) if packed else raw
            bounded: Any = _Bounded(stream)
            with tarfile.open(fileobj=bounded, mode="r:") as archive:
                members = _checked_members(archive, max_bytes)
                yield _opener(archive, members, marker)
    except BadArchive:
        raise
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ValueError, OverflowError) as error:
        raise BadArchive(f"the archive is damaged or no .tar or .tar.gz: {error}") from error


class _Bounded:
    """A stream that refuses to read much at once: tarfile reads some headers whole, whatever they claim."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek = stream.seek
        self.tell = stream.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_READ_BYTES:
            raise BadArchive("the archive has a header that is too large")
        return self._stream.read(size)


def _checked_members(archive: tarfile.TarFile, max_bytes: int) -> dict[str, tarfile.TarInfo]:
    """Regular files by their path, `./` taken off."""
    members: dict[str, tarfile.TarInfo] = {}
    total = 0
    for count, member in enumerate(archive, start=1):
        total += member.size
        if count > MAX_MEMBERS:
            raise BadArchive(f"the archive has more than {MAX_MEMBERS} members")
        if total > max_bytes:
            raise BadArchive(f"the archive unpacks to more than {max_bytes} bytes")
        path = _checked_path(member)
        if member.isdir():
            continue
        if path in members:
            raise BadArchive(f"the archive holds {path!r} twice")
        members[path] = member
    return members


def _checked_path(member: tarfile.TarInfo) -> str:
    name = member.name
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or "\\" in name or "\0" in name or ".." in parts:
        raise BadArchive(f"the archive holds {name[:200]!r}, which is outside of its folder")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise BadArchive(f"the archive holds {name[:200]!r}, which is a link or no regular file")
    return "/".join(parts)


def _opener(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], marker: str) -> Opener:
    found = [path for path in members if path.split("/")[-1] == marker and path.count("/") < 2]
    tops = [path.removesuffix(marker) for path in found]
    if len(tops) > 1 and "" not in tops:
        raise BadArchive(f"the archive holds {marker} in more than one folder")
    top = "" if "" in tops or not tops else tops[0]

    def open_member(name: str) -> IO[bytes]:
        member = members.get(top + name)
        opened = archive.extractfile(member) if member else None
        if opened is None:
            raise FileNotFoundError(name)
        return opened

    return open_member
