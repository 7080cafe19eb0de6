"""The two ways to build an image: Docker where it runs, else buildah with a base image made here.

buildah runs without any daemon, registry or special kernel: its layers lie in the cache, its build
steps in a chroot. What a private mirror or certificate authority needs reaches the build steps by mounts,
so nothing of it is in the image.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Protocol

import recipe
from progress import Failed, say

CERTIFICATES = Path("/etc/ssl/certs")
PIP_SETTINGS = {"index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries"}
DEBIAN_PACKAGES = ("buildah", "ca-certificates", "debian-archive-keyring", "mmdebstrap")
TRUST_ALL = '{"default": [{"type": "insecureAcceptAnything"}]}'


class Engine(Protocol):
    def prepare(self) -> None:
        """Installs what is needed."""

    def clear(self) -> None:
        """Removes what a killed build left. Only for who holds the lock: it would end another's build."""

    def build(self, image: recipe.Image) -> None: ...
    def save(self, image: recipe.Image, archive: Path) -> None: ...
    def push(self, image: recipe.Image, target: str) -> None: ...
    def forget_older(self, image: recipe.Image) -> None:
        """Removes earlier builds of this image; the layers that it shares with them stay."""


def choose(cache: Path) -> Engine:
    """LEPTON_ENGINE is docker, buildah or auto: Docker if its engine answers, else buildah."""
    wanted = os.environ.get("LEPTON_ENGINE", "auto")
    if wanted == "docker" or (wanted == "auto" and answers(["docker", "info"])):
        return Docker()
    if os.geteuid() != 0:
        raise Failed("buildah needs root here: run it as root, or start Docker")
    return Buildah(cache)


class Docker:
    def prepare(self) -> None:
        pass

    def clear(self) -> None:
        pass

    def build(self, image: recipe.Image) -> None:
        say(f"Building {image.reference}")
        call(["docker", "build", "--file", str(image.containerfile), "--tag", image.reference, "."])

    def save(self, image: recipe.Image, archive: Path) -> None:
        call(["docker", "save", "--output", str(archive), image.reference])

    def push(self, image: recipe.Image, target: str) -> None:
        call(["docker", "tag", image.reference, target])
        call(["docker", "push", target])

    def forget_older(self, image: recipe.Image) -> None:
        """Nothing: a user's Docker is tidied by its user."""


class Buildah:
    def __init__(self, cache: Path) -> None:
        self.home = cache / "buildah"
        self.log = self.home / "build.log"
        self.base_archive = self.home / f"base-{recipe.base_hash()}.tar"
        self.base = f"localhost/lepton-base:{recipe.base_hash()}"

    def prepare(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        install_packages(self.home.parent / "apt.lock")
        (self.home / "policy.json").write_text(TRUST_ALL)
        self.options = self.storage_options()

    def clear(self) -> None:
        self.buildah("rm", "--all")

    def storage_options(self) -> list[str]:
        """overlay where the kernel and the file system below the cache take it, else plain copies."""
        for driver in ("overlay", "vfs"):
            run = f"/run/lepton-buildah/{hashlib.sha256(bytes(self.home)).hexdigest()[:8]}-{driver}"
            place = ["--root", str(self.home / driver), "--runroot", run]
            options = ["--storage-driver", driver, *place]
            if answers(["buildah", *options, "info"]):
                return options
        raise Failed(f"buildah can't store images below {self.home}: run `buildah info` to see why")

    def build(self, image: recipe.Image) -> None:
        self.make_base()
        say(f"Building {image.reference} (log: {self.log})")
        # One unchanged option list for all builds: a difference would miss the cached layers.
        self.buildah(
            "bud",
            "--layers",
            "--pull=false",
            *("--isolation", "chroot", "--network", "host", "--format", "docker"),
            *self.mounts(),
            *("--build-arg", f"BASE={self.base}"),
            *("--ignorefile", str(recipe.ROOT / ".containerignore")),
            *("--file", str(image.containerfile), "--tag", image.reference),
            str(recipe.ROOT),
        )

    def mounts(self) -> list[str]:
        """Settings of this machine for pip, and the authorities that it trusts."""
        settings = self.home / "pip.conf"
        settings.write_text(pip_settings())
        mounts = ["--volume", f"{settings}:/etc/pip.conf:ro"]
        if CERTIFICATES.is_dir():
            mounts += ["--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
        return mounts

    def make_base(self) -> None:
        if answers(["buildah", *self.options, "inspect", "--type", "image", self.base]):
            return
        if not self.base_archive.exists():
            say("Making the base image from Debian's packages")
            temporary = self.base_archive.with_name(".tmp-base.tar")
            call(base_command(temporary), log=self.log)
            temporary.rename(self.base_archive)
        containerfile = self.home / "base.Containerfile"
        path = "/usr/local/bin:/usr/bin:/bin"
        containerfile.write_text(f"FROM scratch\nADD {self.base_archive.name} /\nENV PATH={path}\n")
        self.buildah(
            "bud", "--format", "docker", "--file", str(containerfile), "--tag", self.base, str(self.home)
        )

    def save(self, image: recipe.Image, archive: Path) -> None:
        self.buildah("push", image.reference, f"docker-archive:{archive}:{image.reference}")

    def push(self, image: recipe.Image, target: str) -> None:
        self.buildah("push", image.reference, f"docker://{target}")

    def forget_older(self, image: recipe.Image) -> None:
        listed = subprocess.run(
            ["buildah", *self.options, "images", "--format", "{{.Name}}:{{.Tag}}"],
            capture_output=True,
            text=True,
            check=True,
        )
        repository = image.reference.partition(":")[0]
        older = {line for line in listed.stdout.split() if line.startswith(f"{repository}:")}
        for reference in older - {image.reference}:
            self.buildah("rmi", reference)

    def buildah(self, command: str, *arguments: str) -> None:
        policy = ["--signature-policy", str(self.home / "policy.json")] if command in ("bud", "push") else []
        call(["buildah", *self.options, command, *policy, *arguments], log=self.log)


def base_command(target: Path) -> list[str]:
    hooks = "/usr/share/mmdebstrap/hooks/merged-usr"
    command = ["mmdebstrap", "--mode=root", "--variant=custom", "--format=tar", f"--hook-dir={hooks}"]
    command += ["--aptopt=APT::Install-Recommends false"]
    command += [f"--include={package}" for package in recipe.BASE_PACKAGES]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in recipe.BASE_LEAVES_OUT]
    # An empty pip.conf is where the settings of the building machine are mounted.
    command += ["--customize-hook=: > $1/etc/pip.conf", "--customize-hook=rm -f $1/etc/apt/sources.list"]
    command += [recipe.BASE_SUITE, str(target)]
    mirror = os.environ.get("LEPTON_DEBIAN_MIRROR")
    return [*command, mirror] if mirror else command


def install_packages(lock: Path) -> None:
    """Installs what is missing. The lock is the one that the local cluster's tool takes as well."""
    if not missing_tools():
        return
    if shutil.which("apt-get") is None:
        raise Failed(f"Not found: {', '.join(missing_tools())}. Install them, or start Docker")
    say(f"Installing {', '.join(missing_tools())}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]
    install = [*apt, "install", "--yes", "--no-install-recommends", *DEBIAN_PACKAGES]
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not answers(install, environment):  # the lists of packages are old, or not there
            call([*apt, "update"], environment)
            call(install, environment)


def missing_tools() -> list[str]:
    return [tool for tool in ("buildah", "mmdebstrap") if shutil.which(tool) is None]


def pip_settings() -> str:
    """pip's own settings on this machine (files and environment), as a pip.conf for the build steps."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    lines = ["[global]"]
    for line in listed.stdout.splitlines():
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        if name in PIP_SETTINGS:
            lines.append(f"{name} = {value.strip(chr(39))}")
    bundle = CERTIFICATES / "ca-certificates.crt"
    if bundle.exists():
        lines.append(f"cert = {bundle}")
    return "\n".join(lines) + "\n"


def answers(command: list[str], environment: dict[str, str] | None = None) -> bool:
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0


def call(command: list[str], environment: dict[str, str] | None = None, log: Path | None = None) -> None:
    """Runs a command. Its output goes to the end of the log as it comes, its last lines into the failure."""
    with log.open("a+") if log else tempfile.TemporaryFile("w+") as output:
        output.write(f"\n$ {' '.join(command)}\n")
        output.flush()
        start = output.tell()
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        )
        if done.returncode != 0:
            output.seek(start)
            tail = "".join(output.readlines()[-30:])
            raise Failed(f"`{' '.join(command[:2])} ...` failed with {done.returncode}:\n{tail}")
