"""Start, find and stop the cluster's processes.

Every process carries a mark in its environment: the state folder and its own name. /proc shows it, also
for children such as containerd's shims. So no record of process ids is needed: nothing can be lost when
the tool is killed, no id can be stale or belong to someone else after a reboot.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lepton_cluster.errors import ClusterError
from lepton_cluster.layout import Layout

MARK = "LEPTON_CLUSTER_PROCESS"
SEPARATOR = "::"
TAIL_LINES = 15
DEAD_SECONDS = 1.0  # without being found, before a process counts as dead


@dataclass(frozen=True)
class Process:
    """A running process of a cluster."""

    pid: int
    name: str
    is_shim: bool  # a child of containerd that outlives it, with containerd's mark


def run(command: Sequence[str], *, check: bool = True, text_input: str | None = None) -> str:
    """Run a short command and return its output; a failure tells the command and its last words."""
    result = subprocess.run(
        command, input=text_input, stdin=None if text_input is not None else subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if check and result.returncode:
        raise ClusterError(f"{' '.join(command)} failed: {(result.stderr or result.stdout).strip()[-800:]}")
    return result.stdout


def start(
    layout: Layout, name: str, namespace: str, command: Sequence[str], *, pass_fd: int | None = None
) -> None:
    """Start a long-running process in a network namespace.

    It has a session of its own, so Ctrl-C in the caller's terminal does not reach it, and holds none of
    the caller's files open. nsenter and not `ip netns exec`: the latter mounts a new /sys, in which the
    kubelet finds no cgroups.
    """
    layout.logs.mkdir(parents=True, exist_ok=True)
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        MARK: f"{layout.folder}{SEPARATOR}{name}",
    }
    full = ["nsenter", f"--net=/run/netns/{namespace}", "--", *command]
    if pass_fd is not None:  # the child expects it as 3
        full = ["sh", "-c", f'exec 3<&{pass_fd} && exec "$@"', "sh", *full]
    with (layout.logs / f"{name}.log").open("ab") as log:
        subprocess.Popen(
            full, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd="/",
            start_new_session=True, pass_fds=() if pass_fd is None else (pass_fd,),
        )  # fmt: skip


def find(layout: Layout) -> list[Process]:
    """All running processes of the cluster, by their mark."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (name := _marked_name(int(entry), layout)) is not None:
            found.append(Process(int(entry), name, _is_shim(int(entry))))
    return found


def running_names(layout: Layout) -> set[str]:
    """Names of the components that run now."""
    return {process.name for process in find(layout) if not process.is_shim}


def _marked_name(pid: int, layout: Layout) -> str | None:
    wanted = f"{MARK}={layout.folder}{SEPARATOR}".encode()
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    for variable in variables:
        if variable.startswith(wanted) and not _is_zombie(pid):
            return variable[len(wanted) :].decode()
    return None


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; the name before it may hold spaces."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["Z", "0"]


def _is_zombie(pid: int) -> bool:
    return _stat_fields(pid)[0] in "ZX"


def _is_shim(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().startswith("containerd-shim")
    except OSError:
        return False


def stop(layout: Layout, wanted: Callable[[Process], bool], *, grace: float = 10.0) -> int:
    """Ask the processes to end, wait, and kill what remains. Returns how many there were."""
    targets = [process for process in find(layout) if wanted(process)]
    if grace > 0:
        _signal(targets, signal.SIGTERM)
        _wait_gone(layout, wanted, grace)
    remaining = [process for process in find(layout) if wanted(process)]
    _signal(remaining, signal.SIGKILL)
    if not _wait_gone(layout, wanted, 10.0):
        names = sorted({process.name for process in find(layout) if wanted(process)})
        raise ClusterError(f"Processes do not end: {', '.join(names)}")
    return len(targets)


def _signal(processes: Iterable[Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _wait_gone(layout: Layout, wanted: Callable[[Process], bool], seconds: float) -> bool:
    """Wait until none is found twice in a row: while it executes a program, a process shows no mark."""
    deadline = time.monotonic() + seconds
    looks_without = 0
    while looks_without < 2:
        if time.monotonic() > deadline:
            return False
        looks_without = 0 if any(wanted(process) for process in find(layout)) else looks_without + 1
        time.sleep(0.02)
    return True


def log_tail(layout: Layout, name: str, lines: int = TAIL_LINES) -> str:
    """The last lines that a component logged."""
    path = layout.logs / f"{name}.log"
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 20_000))
            text = log.read().decode(errors="replace")
    except OSError:
        return f"({path} can't be read)"
    return "\n".join(line[:300] for line in text.splitlines()[-lines:])


def wait_for(
    layout: Layout,
    what: str,
    condition: Callable[[], bool],
    *,
    components: Sequence[str],
    seconds: float,
    interval: float = 0.1,
) -> None:
    """Wait until the condition holds; fail at the deadline, or soon after a needed component died."""
    deadline = time.monotonic() + seconds
    last_complete = time.monotonic()
    while not condition():
        now = time.monotonic()
        dead = [name for name in components if name not in running_names(layout)]
        last_complete = last_complete if dead else now
        late = now > deadline
        if late or now - last_complete > DEAD_SECONDS:
            reason = f"{dead[0]} ended" if dead else f"not so after {seconds:.0f} s"
            shown = dead or list(components)
            tails = "\n".join(f"--- last lines of {n}:\n{log_tail(layout, n)}" for n in shown)
            raise ClusterError(f"Waiting for {what}: {reason}\n{tails}")
        time.sleep(interval)
