"""Mounts that a cluster leaves below its folders."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

from lepton_cluster.errors import ClusterError

MNT_DETACH = 2


def below(folder: Path) -> list[str]:
    """Mount points below a folder, the newest first, so that nested ones come before their parents."""
    prefix = f"{folder}/"
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape")  # spaces are written as \040
        if point.startswith(prefix):
            points.append(point)
    return points[::-1]


def unmount_below(folder: Path) -> int:
    """Unmount everything below a folder, lazily: a process that dies slowly must not hold it. Counts them."""
    libc = ctypes.CDLL(None, use_errno=True)
    points = below(folder)
    for point in points:
        if libc.umount2(os.fsencode(point), MNT_DETACH) and os.path.ismount(point):
            raise OSError(ctypes.get_errno(), f"{point} can't be unmounted")
    return len(points)


def remove_folder(folder: Path) -> None:
    """Delete a folder. Never through a mount: a pod's hostPath volume may be any folder of the machine."""
    unmount_below(folder)
    if remaining := below(folder):
        raise ClusterError(f"{folder} is not deleted: {remaining[0]} is mounted in it")
    if folder.exists():
        shutil.rmtree(folder)
