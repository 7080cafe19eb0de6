"""What is remembered about a cluster that came up completely. A half-made one has no such record."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lepton_cluster.errors import ClusterError
from lepton_cluster.layout import Layout


@dataclass(frozen=True)
class State:
    """What a running cluster was made from; another one is needed when any of it changed."""

    nodes: int
    binaries: Path
    tool: str  # fingerprint of the tool's sources

    def save(self, layout: Layout) -> None:
        content = {"nodes": self.nodes, "binaries": str(self.binaries), "tool": self.tool}
        unfinished = layout.state_file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(content, indent=1) + "\n")
        unfinished.rename(layout.state_file)

    @classmethod
    def load(cls, layout: Layout) -> State | None:
        try:
            content = json.loads(layout.state_file.read_text())
            return cls(int(content["nodes"]), Path(content["binaries"]), str(content["tool"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @classmethod
    def require(cls, layout: Layout) -> State:
        state = cls.load(layout)
        if state is None:
            raise ClusterError(f"No cluster is up in {layout.folder}; start one with `up`")
        return state
