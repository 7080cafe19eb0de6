"""Virtual environments of the peers: made on first use from pinned requirements, below the cache, and kept."""

import asyncio
import hashlib
import os
import sys
from pathlib import Path

from bench.client import BenchError

PEERS = Path(__file__).parent / "peers"
INSTALLED = "installed"
"""Holds the digest of the requirements that the environment was made from."""


def cache_folder() -> Path:
    """Where what is kept between runs lies: `bench` in LEPTON_CACHE, else in the user's cache."""
    chosen = os.environ.get("LEPTON_CACHE")
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (Path(chosen).absolute() if chosen else user / "lepton") / "bench"


def folder_of(name: str) -> Path:
    """Where the environment of `peers/NAME.txt` is."""
    return cache_folder() / name


def python_of(name: str) -> Path:
    """Its interpreter."""
    return folder_of(name) / "bin/python"


async def ensure(name: str) -> Path:
    """The interpreter of the environment, which is made where it is missing or has other versions.

    Raises:
        BenchError: it can't be made; the text holds pip's last words.
    """
    folder, requirements = folder_of(name), PEERS / f"{name}.txt"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    stamp = folder / INSTALLED
    if stamp.exists() and stamp.read_text() == wanted:
        return python_of(name)
    stamp.unlink(missing_ok=True)
    await _call(sys.executable, "-m", "venv", "--clear", str(folder))
    await _call(
        str(python_of(name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--requirement", str(requirements),
    )  # fmt: skip
    stamp.write_text(wanted)
    return python_of(name)


async def _call(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    if process.returncode:
        raise BenchError(f"{' '.join(command)} ended with {process.returncode}: {errors.decode()[-1000:]}")
