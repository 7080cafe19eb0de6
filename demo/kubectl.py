"""kubectl with an explicit kubeconfig or context; an exported KUBECONFIG is never used by accident."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.display import DemoError


def environment() -> dict[str, str]:
    """Ours without KUBECONFIG, for every program that the demo starts."""
    return {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}


@dataclass(frozen=True)
class Kubectl:
    """One cluster, one way to reach it."""

    program: str
    kubeconfig: Path | None
    context: str | None

    def arguments(self, *arguments: str) -> list[str]:
        """The whole command line."""
        command = [self.program]
        if self.kubeconfig:
            command += ["--kubeconfig", str(self.kubeconfig)]
        if self.context:
            command += ["--context", self.context]
        return [*command, *arguments]

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 60) -> str:
        """Standard output; raises DemoError with what kubectl said."""
        try:
            result = subprocess.run(
                self.arguments(*arguments),
                input=stdin,
                env=environment(),
                capture_output=True,
                text=True,
                timeout=timeout,
            )
        except FileNotFoundError as error:
            raise DemoError(f"{self.program} is not there: install kubectl") from error
        except subprocess.TimeoutExpired as error:
            raise DemoError(f"kubectl {' '.join(arguments)} did not answer in {timeout:.0f} s") from error
        if result.returncode != 0:
            raise DemoError(f"kubectl {' '.join(arguments)} failed: {result.stderr.strip()}")
        return result.stdout

    def json(self, *arguments: str) -> Any:
        """The parsed answer."""
        return json.loads(self.run(*arguments, "-o", "json"))

    def server(self) -> str:
        """Address of the API server."""
        config = self.json("config", "view", "--minify")
        return str(config["clusters"][0]["cluster"]["server"])
