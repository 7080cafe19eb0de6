"""One running server for all tests that only ask it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.serving.support import Process, write_artifact


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server process with the tiny model."""
    root = tmp_path_factory.mktemp("served")
    write_artifact(root / "lepton" / "model")
    process = Process(root)
    try:
        yield process.wait_ready()
    finally:
        process.kill()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with the tiny model in its place."""
    write_artifact(tmp_path / "lepton" / "model")
    return tmp_path
