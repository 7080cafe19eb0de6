"""The cgroup that holds all pods of a node, in cgroup v1 and v2."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def _hierarchies() -> list[Path]:
    """The mounted hierarchies that a container's processes are in: one in v2, one per controller in v1."""
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT]
    folders = [path for path in ROOT.iterdir() if path.is_dir() and not path.is_symlink()]
    return [path for path in folders if path.name != "unified"]  # systemd's v2 beside v1: no controllers


def create(cgroup: str) -> None:
    """Make the cgroup that the kubelet then works in; it wants to find it."""
    for hierarchy in _hierarchies():
        folder = hierarchy / cgroup.lstrip("/")
        folder.mkdir(exist_ok=True)
        if hierarchy == ROOT:
            controllers = (ROOT / "cgroup.controllers").read_text().split()
            for parent in (ROOT, folder):
                (parent / "cgroup.subtree_control").write_text(" ".join(f"+{c}" for c in controllers))
        elif hierarchy.name == "cpuset":
            for name in ("cpuset.cpus", "cpuset.mems"):
                (folder / name).write_text((hierarchy / name).read_text())


def _folders(cgroup: str) -> list[Path]:
    """All folders of the cgroup and below, the deepest first."""
    found = []
    for hierarchy in _hierarchies():
        for path, _, _ in os.walk(hierarchy / cgroup.lstrip("/"), topdown=False):
            found.append(Path(path))
    return found


def processes(cgroup: str) -> set[int]:
    """Ids of all processes in the cgroup and below."""
    pids: set[int] = set()
    for folder in _folders(cgroup):
        try:
            pids.update(int(line) for line in (folder / "cgroup.procs").read_text().split())
        except OSError:
            continue
    return pids


def kill_all(cgroup: str, seconds: float = 10.0) -> int:
    """Kill every process in the cgroup and wait until none is left. Returns how many there were."""
    seen: set[int] = set()
    deadline = time.monotonic() + seconds
    while (pids := processes(cgroup)) and time.monotonic() < deadline:
        seen |= pids
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    return len(seen)


def remove(cgroup: str) -> None:
    """Remove the empty cgroup; one that a process is still leaving is left for the next run."""
    for folder in _folders(cgroup):
        try:
            folder.rmdir()
        except OSError:
            continue
