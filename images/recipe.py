"""What goes into an image, and the name that follows from it. Reads files, runs nothing."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("operator", "server", "trainer")

# The stand-in for python:3.11-slim-bookworm where no registry is asked: the essential packages of
# Debian and its Python. media-types and usr-is-merged are chosen because the alternatives that apt
# would take (mailcap, usrmerge) bring all of Perl.
BASE_SUITE = "bookworm"
BASE_PACKAGES = (
    "?essential",
    "ca-certificates",
    "libstdc++6",
    "media-types",
    "python3",
    "python3-venv",
    "usr-is-merged",
)
BASE_LEAVES_OUT = (
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
    "/usr/lib/*/gconv/*",
)


@dataclass(frozen=True)
class Image:
    name: str
    hash: str

    @property
    def containerfile(self) -> Path:
        return ROOT / "images" / f"{self.name}.Containerfile"

    @property
    def reference(self) -> str:
        return f"localhost/lepton-{self.name}:{self.hash}"

    def archive(self, cache: Path) -> Path:
        return cache / "images" / f"{self.name}-{self.hash}.tar"


@functools.cache
def images() -> tuple[Image, ...]:
    """All images in the order in which they are built."""
    return tuple(Image(name, input_hash(name)) for name in NAMES)


def input_hash(name: str) -> str:
    containerfile = ROOT / "images" / f"{name}.Containerfile"
    sources = [ROOT / source for source in copied(containerfile.read_text())]
    return digest([containerfile, *sources], salt=base_hash())


def base_hash() -> str:
    recipe = repr((BASE_SUITE, BASE_PACKAGES, BASE_LEAVES_OUT))
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def copied(containerfile: str) -> list[str]:
    """The sources of COPY, as written; those of other stages are made from these."""
    sources = []
    for line in containerfile.splitlines():
        words = line.split()
        if words[:1] == ["COPY"] and not words[1].startswith("--from="):
            sources += words[1:-1]
    return sorted(set(sources))


def digest(paths: Iterable[Path], salt: str = "") -> str:
    """Twelve digits over names and contents. Modes and times don't count: they differ between clones."""
    total = hashlib.sha256(salt.encode())
    for path in paths:
        for file in sorted(files_below(path)):
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            total.update(f"{file.relative_to(ROOT)} {content}\n".encode())
    return total.hexdigest()[:12]


def files_below(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return [file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts]


def cache_folder() -> Path:
    """Where everything built is kept, outside the repository: LEPTON_CACHE, else the user's cache."""
    chosen = os.environ.get("LEPTON_CACHE")
    if chosen:
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lepton"
