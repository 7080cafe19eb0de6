"""CPU time and memory of a process with all its children, as the kernel counts them."""

import os
import re
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


def tree(pid: int) -> list[int]:
    """The process and all that descend from it."""
    parents: dict[int, list[int]] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))):
            parents.setdefault(int(fields[1]), []).append(int(folder.name))
    found = [pid]
    for one in found:
        found.extend(parents.get(one, []))
    return found


def birth(pid: int) -> str:
    """When it was started, in the kernel's ticks; empty when it has ended. Tells it from a later one of its number."""
    fields = _stat(pid)
    return fields[19] if fields and fields[0] != "Z" else ""


def cpu_seconds(pid: int) -> float:
    """User and system time so far of the tree, and of the children that have ended."""
    return sum(sum(map(int, fields[11:15])) for one in tree(pid) if (fields := _stat(one))) / TICKS


def memory_mib(pid: int) -> tuple[float, float]:
    """Resident size of the tree, and its proportional size, in which a page that n processes share counts 1/n."""
    texts = [_read(PROC / str(one) / "smaps_rollup") for one in tree(pid)]
    return (
        sum(_kilobytes("Rss", text) for text in texts) / 1024,
        sum(_kilobytes("Pss", text) for text in texts) / 1024,
    )


def has_dot_products(cpuinfo: str) -> bool:
    """Whether the processor of /proc/cpuinfo multiplies and adds 8-bit numbers in one step (VNNI; dotprod on Arm)."""
    return not {"avx512_vnni", "avx_vnni", "asimddp"}.isdisjoint(cpuinfo.split())


def _kilobytes(name: str, text: str) -> int:
    match = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) if match else 0


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on; none when it has ended."""
    return _read(PROC / str(pid) / "stat").rpartition(")")[2].split()


def _read(path: Path) -> str:
    """Empty for a process that has ended meanwhile."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
