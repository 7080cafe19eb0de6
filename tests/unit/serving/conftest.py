"""One running server for all tests that only ask it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.serving.support import TASK, Process, write_artifact


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


@pytest.fixture(scope="session")
def grpc_served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server process with the tiny model that speaks gRPC as well."""
    root = tmp_path_factory.mktemp("grpc")
    write_artifact(root / "lepton" / "model")
    process = Process(root, LEPTON_TASK=TASK.model_copy(update={"grpc": True}).to_json())
    try:
        yield process.wait_ready()
    finally:
        process.kill()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with the tiny model in its place."""
    write_artifact(tmp_path / "lepton" / "model")
    return tmp_path
