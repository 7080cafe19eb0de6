"""One running server for all tests that only ask it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.serving import shapes
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


@pytest.fixture(scope="session")
def shapes_network() -> Any:
    """A Keras model that knows the generated shapes."""
    return shapes.train()


@pytest.fixture(scope="session")
def shapes_version(shapes_network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of that network."""
    folder = tmp_path_factory.mktemp("shapes") / "version"
    shapes.write_version(shapes_network, folder)
    return folder


@pytest.fixture(scope="session")
def serve_shapes(
    shapes_version: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Process]]:
    """Starts servers of that version: `serve_shapes(fit, **fields of the task)`."""
    started: dict[str, Process] = {}

    def serve(fit: shapes.Fit = "pad", **fields: Any) -> Process:
        task = TASK.model_copy(update={"name": "shapes", "max_request_bytes": 2_000_000, **fields}).to_json()
        if fit + task not in started:
            root = tmp_path_factory.mktemp("served_shapes")
            model = Path(shutil.copytree(shapes_version, root / "lepton" / "model"))
            (model / "signature.json").write_text(shapes.signature(fit).to_json())
            (root / "lepton" / "tokens").mkdir()
            (root / "lepton" / "tokens" / "team").write_text(shapes.TOKEN)
            started[fit + task] = Process(root, LEPTON_TASK=task)
            started[fit + task].wait_ready()
        return started[fit + task]

    yield serve
    for process in started.values():
        process.kill()


@pytest.fixture
def shapes_server(serve_shapes: Callable[..., Process]) -> Process:
    """One with the defaults."""
    return serve_shapes()
