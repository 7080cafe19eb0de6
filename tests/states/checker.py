"""Asks the Go program in `checker/` what kstatus and Argo CD say of objects; builds it when it is not in the cache."""

import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lepton_cluster.build import cache_folder, go_program, locked

MODULE = Path(__file__).parent / "checker"


@dataclass(frozen=True)
class Said:
    """What the tools say of one object."""

    kstatus: str
    """sigs.k8s.io/cli-utils."""
    flux: str
    """github.com/fluxcd/cli-utils, which Flux and Helm use."""
    kstatus_message: str
    health: str
    """Argo CD, with our health check."""
    health_message: str


def ask(questions: Sequence[tuple[dict[str, Any], str]]) -> list[Said]:
    """(object, health script) -> what the tools say, all in one run."""
    lines = [json.dumps({"object": obj, "script": script}) for obj, script in questions]
    done = subprocess.run([program()], input="\n".join(lines), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(questions)
    return [
        Said(one["kstatus"], one["flux"], one["kstatusMessage"], one["health"], one["healthMessage"])
        for one in answers
    ]


def program() -> Path:
    """The binary of exactly these sources and this compiler; built by the first who needs it."""
    go = go_program()
    version = _run([go, "env", "-C", str(MODULE), "GOVERSION"]).strip()
    digest = hashlib.sha256(version.encode())
    for path in sorted(MODULE.iterdir()):
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    folder = cache_folder() / "bin"
    binary = folder / f"states-checker-{digest.hexdigest()[:16]}"
    if binary.exists():
        return binary
    with locked(folder / "states-checker.lock"):
        if not binary.exists():  # another run may have built it meanwhile
            unfinished = binary.with_suffix(".unfinished")
            # The flags of the local cluster's programs: what was compiled for them is used again.
            _run([go, "build", "-C", str(MODULE), "-trimpath", "-buildvcs=false", "-ldflags", "-s -w",
                  "-o", str(unfinished), "."])  # fmt: skip
            unfinished.rename(binary)
    return binary


def _run(command: list[str]) -> str:
    environment = {**os.environ, "CGO_ENABLED": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout
