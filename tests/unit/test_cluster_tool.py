"""Pure parts of the local cluster's tool: names, manifests, archives, waiting. No root needed."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from pathlib import Path

import pytest

from lepton_cluster import addons, api, build, control_plane, images, lifecycle, node, processes
from lepton_cluster.errors import ClusterError
from lepton_cluster.layout import Layout
from lepton_cluster.state import State


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "c")


def test_clusters_in_different_folders_share_no_name() -> None:
    one, other = Layout.of("/srv/one"), Layout.of("/srv/other")
    assert one.prefix != other.prefix
    assert one.run_folder != other.run_folder
    assert one.node(1).namespace != other.node(1).namespace
    assert one.node(1).cgroup != other.node(1).cgroup


def test_same_folder_has_the_same_port_and_names() -> None:
    assert Layout.of("/srv/one/../one") == Layout.of("/srv/one")
    assert 20000 <= Layout.of("/srv/one").preferred_port() < 30000


@pytest.mark.parametrize("length", [10, 60, 61, 200])
def test_sockets_fit_into_the_kernels_limit(length: int) -> None:
    layout = Layout.of("/" + "x" * (length - 1))
    socket = layout.node(2).folder / "kubelet" / "pod-resources" / "kubelet.sock"
    assert len(str(socket)) <= 107


def test_foreign_folder_is_never_deleted(layout: Layout) -> None:
    layout.folder.mkdir()
    (layout.folder / "thesis.tex").touch()
    with pytest.raises(ClusterError, match="not a cluster's folder"):
        lifecycle.remove(layout, print, grace=0)
    assert (layout.folder / "thesis.tex").exists()


def test_port_in_use_is_passed_over(layout: Layout) -> None:
    with control_plane.listen(layout) as first, control_plane.listen(layout) as second:
        assert first.getsockname()[1] != second.getsockname()[1]


def test_cluster_never_came_up_without_its_state(layout: Layout) -> None:
    state = State(2, Path("/bin"), "fingerprint")
    assert State.load(layout) is None
    assert lifecycle.problem(layout, state) == "it is not up"
    layout.folder.mkdir()
    layout.state_file.write_text('{"nodes": ')
    assert State.load(layout) is None
    state.save(layout)
    assert State.load(layout) == state
    assert (
        lifecycle.problem(layout, State(1, Path("/bin"), "fingerprint")) == "it was made with other settings"
    )
    assert "not running: api-server" in (lifecycle.problem(layout, state) or "")


def test_manifests_have_paths(layout: Layout) -> None:
    layout.pki.mkdir(parents=True)
    (layout.pki / "ca.crt").write_text("certificate")
    paths = [api.object_path(item) for item in addons.manifests(layout)]
    assert len(paths) == len(set(paths))
    assert "/api/v1/namespaces/kube-system/services/kube-dns" in paths
    assert "/apis/storage.k8s.io/v1/storageclasses/lepton-local" in paths
    assert "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io" in paths


def test_nodes_differ_in_everything_that_may_not_be_shared(layout: Layout) -> None:
    one, two = layout.nodes(2)
    assert one.pod_cidr != two.pod_cidr
    assert one.address != two.address
    assert not set(node.components(one)) & set(node.components(two))
    assert str(one.containerd_socket) in node.containerd_config(one)
    assert str(one.containerd_socket) not in node.containerd_config(two)


def test_image_of_one_file_is_a_valid_archive() -> None:
    archive = images.single_file_image("localhost/x:1", "/program", b"content", ["/program"])
    assert archive == images.single_file_image("localhost/x:1", "/program", b"content", ["/program"])
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
    index = json.loads(files["index.json"])["manifests"][0]
    assert index["annotations"]["io.containerd.image.name"] == "localhost/x:1"
    manifest = json.loads(files[f"blobs/sha256/{index['digest'][7:]}"])
    layer = files[f"blobs/sha256/{manifest['layers'][0]['digest'][7:]}"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        assert tar.getnames() == ["program"]


def test_changed_archive_is_another_archive(tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    archive.write_bytes(b"one")
    before = images.archive_key(archive)
    assert images.archive_key(archive) == before
    archive.write_bytes(b"two")
    os.utime(archive, ns=(1, 1))
    assert images.archive_key(archive) != before


def test_waiting_ends_when_a_needed_component_died(layout: Layout) -> None:
    layout.logs.mkdir(parents=True)
    (layout.logs / "etcd.log").write_text("disk on fire\n")
    started = time.monotonic()
    with pytest.raises(ClusterError, match=r"Waiting for data: etcd ended[\s\S]*disk on fire"):
        processes.wait_for(layout, "data", lambda: False, components=["etcd"], seconds=60)
    assert time.monotonic() - started < 5


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/me")
    monkeypatch.delenv("LEPTON_CACHE", raising=False)
    assert build.cache_folder() == Path("/var/cache/me/lepton")
    monkeypatch.setenv("LEPTON_CACHE", "/srv/cache")
    assert build.cache_folder() == Path("/srv/cache")
