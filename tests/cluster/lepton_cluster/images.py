"""Images: the pause image that every pod needs, and loading archives into the nodes."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lepton_cluster.build import Say, cache_folder
from lepton_cluster.errors import ClusterError
from lepton_cluster.layout import Node
from lepton_cluster.node import PAUSE_IMAGE, ctr
from lepton_cluster.processes import run

PAUSE_PROGRAM = "catatonit"  # a static binary whose `-P` does nothing but wait and reap


def pause_archive() -> Path:
    """The pause image as an OCI archive, made once per version of its program."""
    program = shutil.which(PAUSE_PROGRAM, path="/usr/bin:/usr/local/bin:/usr/libexec/podman")
    if program is None:
        raise ClusterError(f"{PAUSE_PROGRAM} is not installed")
    content = Path(program).read_bytes()
    path = cache_folder() / "pause" / f"pause-{hashlib.sha256(content).hexdigest()[:12]}.tar"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_bytes(single_file_image(PAUSE_IMAGE, "/pause", content, ["/pause", "-P"]))
        unfinished.rename(path)
    return path


def single_file_image(name: str, path: str, content: bytes, command: list[str]) -> bytes:
    """An OCI archive of an image with one program in it."""
    layer = _tar({path.lstrip("/"): content}, mode=0o755)
    config = {
        "architecture": _architecture(),
        "os": "linux",
        "config": {"Entrypoint": command, "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    config_blob = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _descriptor("application/vnd.oci.image.config.v1+json", config_blob),
        "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    }
    manifest_blob = json.dumps(manifest).encode()
    entry = _descriptor("application/vnd.oci.image.manifest.v1+json", manifest_blob)
    entry["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    blobs = {f"blobs/sha256/{_digest(blob)[7:]}": blob for blob in (layer, config_blob, manifest_blob)}
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    return _tar({"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index, **blobs}, mode=0o644)


def _architecture() -> str:
    machine = run(["uname", "-m"]).strip()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _tar(files: dict[str, bytes], mode: int) -> bytes:
    """A tar of files, the same bytes for the same files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), mode
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def archive_key(archive: Path) -> str:
    """What tells one archive from another without reading gigabytes: path, size, time of change."""
    status = archive.stat()
    identity = f"{archive.resolve()} {status.st_size} {status.st_mtime_ns}"
    return hashlib.sha256(identity.encode()).hexdigest()[:24]


def load(nodes: list[Node], archives: list[Path], say: Say) -> None:
    """Import archives into all nodes that lack them, the nodes side by side."""
    for archive in archives:
        if not archive.is_file():
            raise ClusterError(f"{archive} does not exist")
    with ThreadPoolExecutor(max_workers=len(nodes)) as pool:
        list(pool.map(lambda node: _load_node(node, archives, say), nodes))


def _load_node(node: Node, archives: list[Path], say: Say) -> None:
    for archive in archives:
        marker = node.folder / "loaded" / archive_key(archive)
        if not marker.exists():
            started = time.monotonic()
            run(ctr(node, "images", "import", str(archive)))
            marker.parent.mkdir(exist_ok=True)
            marker.touch()
            say(f"Loaded {archive.name} into {node.name} in {time.monotonic() - started:.0f} s")
