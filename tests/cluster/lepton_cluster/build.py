"""Debian packages and Go programs, each installed or built once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lepton_cluster.errors import ClusterError
from lepton_cluster.node import CNI_PLUGINS
from lepton_cluster.processes import run

MODULE = Path(__file__).resolve().parent.parent
KUBERNETES = "v1.34.4"
PROGRESS_SECONDS = 10
Say = Callable[[str], None]

# Debian package of each program that must be there.
PROGRAMS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    f"{CNI_PLUGINS}/ptp": "containernetworking-plugins",
    "iptables": "iptables",
    "ip": "iproute2",
    "openssl": "openssl",
    "catatonit": "catatonit",
    "nsenter": "util-linux",
}


def cache_folder() -> Path:
    """Where what can be made again is kept: ${LEPTON_CACHE:-${XDG_CACHE_HOME:-~/.cache}/lepton}."""
    if chosen := os.environ.get("LEPTON_CACHE"):
        return Path(chosen).resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "lepton"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock, which the kernel frees when the process ends however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def missing_packages() -> list[str]:
    """Debian packages of the programs that are not there."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return sorted({package for program, package in PROGRAMS.items() if not shutil.which(program, path=path)})


def install_packages(say: Say) -> None:
    """Install what is missing; the package lists are fetched only when the install needs them."""
    packages = missing_packages()
    if not packages:
        return
    if not shutil.which("apt-get"):
        raise ClusterError(f"Missing on this machine: {', '.join(packages)} (names of Debian packages)")
    say(f"Installing {', '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]
    install = [*apt, "install", "-y", "--no-install-recommends", *packages]
    with locked(cache_folder() / "apt.lock"):
        for command in (install, [*apt, "update"], install):
            result = _run_long(command, environment)
            if not missing_packages():
                return
    raise ClusterError(f"{' '.join(install)} failed:\n{(result.stderr or result.stdout)[-1500:]}")


def _run_long(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def go_program() -> str:
    """The Go compiler, which often is not in root's PATH."""
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if not found:
        raise ClusterError("Go is needed to build the local cluster, and no `go` is in PATH")
    return found


def binaries_folder() -> Path:
    """The folder for binaries of exactly these sources and this compiler."""
    version = run([go_program(), "env", "-C", str(MODULE), "GOVERSION"]).strip()
    digest = hashlib.sha256(f"{version} {KUBERNETES} {_link_flags()}".encode())
    for path in [MODULE / "go.mod", MODULE / "go.sum", *sorted((MODULE / "cmd").rglob("*.go"))]:
        digest.update(f"\0{path.relative_to(MODULE)}\0".encode() + path.read_bytes())
    return cache_folder() / "bin" / digest.hexdigest()[:16]


def build(say: Say) -> Path:
    """The folder with the programs, built now unless they are there."""
    folder = binaries_folder()
    if folder.is_dir():
        return folder
    with locked(cache_folder() / "bin" / "build.lock"):
        if not folder.is_dir():  # another run may have built it meanwhile
            _compile(folder, say)
    return folder


def _compile(folder: Path, say: Say) -> None:
    say("Building Kubernetes, CoreDNS and metrics-server (about 8 minutes on two cores, once)")
    started = time.monotonic()
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    # Without C: the same programs and cache entries whether there is a C compiler or not.
    environment = {**os.environ, "CGO_ENABLED": "0"}
    go = [go_program(), "-C", str(MODULE)]
    listed = _run_long([go[0], "list", *go[1:], "-deps", "./cmd/..."], environment)
    if listed.returncode:
        raise ClusterError(f"The Go modules can't be fetched:\n{listed.stderr[-3000:]}")
    command = [
        go[0], "build", *go[1:], "-v", "-trimpath", "-buildvcs=false", "-ldflags", _link_flags(),
        "-o", f"{unfinished}/", "./cmd/...",
    ]  # fmt: skip
    _run_with_progress(command, environment, len(listed.stdout.split()), say)
    unfinished.rename(folder)
    say(f"Built in {time.monotonic() - started:.0f} s")


def _run_with_progress(command: list[str], environment: dict[str, str], packages: int, say: Say) -> None:
    """Run a verbose build, which prints the name of each package that it compiles."""
    messages: list[str] = []
    compiled, told = 0, time.monotonic()
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if len(line.split()) == 1:
                compiled += 1
            else:
                messages.append(line)
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                say(f"Compiled {compiled} of {packages} packages")
    if process.returncode:
        raise ClusterError(f"The build failed:\n{''.join(messages)[-3000:]}")


def _link_flags() -> str:
    """No debug symbols; and the version, which else would be that of an unreleased Kubernetes."""
    major, minor = KUBERNETES.removeprefix("v").split(".")[:2]
    values = {"gitVersion": KUBERNETES, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    package = "k8s.io/component-base/version"
    return " ".join(["-s -w", *(f"-X {package}.{name}={value}" for name, value in values.items())])
