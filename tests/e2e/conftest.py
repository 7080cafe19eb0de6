"""A cluster with the operator in it, and a namespace for each test that wants one.

`make test` brings the cluster and says by KUBECONFIG, KUBECTL and LEPTON_<NAME>_IMAGE where it is and what runs in it.
Tests look from outside only: kubectl and HTTP.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.display import Display
from demo.install import install
from demo.kubectl import Kubectl
from tests.e2e.cluster import Namespace, leaving, until

IMAGES = ("operator", "trainer", "server")
SETTINGS = {"LEPTON_REPORT_INTERVAL_SECONDS": "2", "LEPTON_STORE_SIZE": "1Gi"}
"""Of the operator under test."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder need the cluster."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def kubectl() -> Kubectl:
    """kubectl of the test cluster."""
    try:
        return Kubectl(os.environ["KUBECTL"], Path(os.environ["KUBECONFIG"]), None)
    except KeyError as error:
        raise pytest.UsageError(f"{error} is not set: run `make test`, which brings a cluster") from error


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """Reference of each image."""
    return {name: os.environ[f"LEPTON_{name.upper()}_IMAGE"] for name in IMAGES}


@pytest.fixture(scope="session")
def lepton(kubectl: Kubectl, images: dict[str, str]) -> Iterator[Kubectl]:
    """The cluster with CRDs and operator installed; in the end nothing keeps a namespace from going."""
    install(Display(), kubectl, images, SETTINGS)
    yield kubectl
    until(lambda: not leaving(kubectl), "that the namespaces of the tests are gone", 180)


@pytest.fixture
def namespace(lepton: Kubectl, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A namespace of the test's own, with Pod Security "restricted"."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:50].strip("-")
    yield from _namespace(lepton, name)


@pytest.fixture(scope="module")
def shared(lepton: Kubectl, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """One namespace for all tests of a file."""
    name = request.module.__name__.rsplit(".", 1)[-1].replace("_", "-")
    yield from _namespace(lepton, name)


def _namespace(lepton: Kubectl, name: str) -> Iterator[Namespace]:
    created = Namespace.create(lepton, name)
    try:
        yield created
    finally:
        created.delete()
