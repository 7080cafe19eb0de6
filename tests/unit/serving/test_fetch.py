"""Fetching artifacts from a folder and from an HTTP server."""

import gzip
import hashlib
import http.server
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lepton_workloads import archive, download
from lepton_workloads.contract.outcome import EXIT_RETRY, EXIT_TERMINAL
from lepton_workloads.contract.tasks import FetchTask
from lepton_workloads.fetch import fetch
from lepton_workloads.termination import WorkloadError
from tests.unit.serving.support import write_artifact

Change = Callable[[tarfile.TarFile], None]
FILES = {"SHA256SUMS", "lineage.json", "metrics.json", "model.tflite", "signature.json"}


class Folders:
    """A claim with one artifact in `models/x`, and an empty place for it."""

    def __init__(self, root: Path) -> None:
        self.source = root / "source"
        self.artifact = self.source / "models" / "x"
        self.model = root / "model"
        self.digest = write_artifact(self.artifact)

    def fetch(self, **task: object) -> None:
        fetch(FetchTask.model_validate(task or {"path": "models/x"}), self.source, self.model)

    def refused(self, **task: object) -> WorkloadError:
        """The failure; nothing is left that could be taken for a model."""
        with pytest.raises(WorkloadError) as raised:
            self.fetch(**task)
        assert not self.model.exists() or not list(self.model.iterdir())
        return raised.value

    def complete(self) -> bool:
        names = {file.name for file in self.model.iterdir()}
        return names == FILES and all(
            (self.model / name).read_bytes() == (self.artifact / name).read_bytes() for name in names
        )


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


def test_a_folder_is_copied_without_what_only_training_needs(folders: Folders) -> None:
    folders.fetch(path="models/x", sha256=folders.digest.upper())
    assert folders.complete()


def test_fetching_again_gives_the_same_end(folders: Folders) -> None:
    folders.fetch()
    (folders.model / "model.tflite").write_bytes(b"half")
    (folders.model / ".tmp").mkdir()
    (folders.model / ".tmp" / "model.tflite").write_bytes(b"left by a killed container")
    (folders.model / ".tmp" / "archive").write_bytes(b"left by a killed container")
    folders.fetch()
    assert folders.complete()


@pytest.mark.parametrize("missing", ["folder", "SHA256SUMS", "model.tflite", "metrics.json"])
def test_what_is_missing_may_appear_later(folders: Folders, missing: str) -> None:
    if missing == "folder":
        failure = folders.refused(path="models/y")
    else:
        (folders.artifact / missing).unlink()
        failure = folders.refused()
    assert (failure.reason, failure.terminal) == ("SourceNotFound", False)
    assert missing in failure.message or "models/y" in failure.message


@pytest.mark.parametrize("name", ["model.tflite", "signature.json", "lineage.json"])
def test_a_changed_file_is_a_mismatch(folders: Folders, name: str) -> None:
    (folders.artifact / name).write_bytes(b"changed")
    failure = folders.refused()
    assert (failure.reason, failure.terminal) == ("ChecksumMismatch", True)
    assert name in failure.message


def test_another_digest_is_a_mismatch(folders: Folders) -> None:
    failure = folders.refused(path="models/x", sha256="0" * 64)
    assert (failure.reason, failure.terminal) == ("ChecksumMismatch", True)
    assert folders.digest in failure.message


@pytest.mark.parametrize(
    ("sums", "text"), [("nonsense\n", "line 1"), ("", "does not list"), ("0" * 64 + "  a\n", "does not list")]
)
def test_checksums_that_do_not_say_enough_are_refused(folders: Folders, sums: str, text: str) -> None:
    (folders.artifact / "SHA256SUMS").write_text(sums)
    failure = folders.refused()
    assert (failure.reason, failure.terminal) == ("InvalidData", True)
    assert text in failure.message


def test_a_signature_that_is_none_is_refused(folders: Folders) -> None:
    (folders.artifact / "signature.json").write_text('{"version": 2}')
    rewrite_checksums(folders.artifact)
    failure = folders.refused()
    assert (failure.reason, failure.terminal) == ("InvalidData", True)
    assert "signature.json" in failure.message


def rewrite_checksums(folder: Path) -> None:
    names = sorted(file.name for file in folder.iterdir() if file.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()} *./{name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(lines))


def test_lines_of_sha256sum_in_binary_mode_are_read(folders: Folders) -> None:
    rewrite_checksums(folders.artifact)
    folders.fetch()
    assert folders.complete()


def with_int8(folder: Path, quantization: dict[str, float] | None) -> None:
    """The version has an 8-bit network, and figures of both."""
    (folder / "model.int8.tflite").write_bytes(b"8 bits")
    (folder / "metrics.json").write_text(json.dumps({"quantization": quantization} if quantization else {}))
    rewrite_checksums(folder)


def test_an_accurate_8_bit_network_is_fetched_beside_the_float_one(folders: Folders) -> None:
    with_int8(folders.artifact, {"floatAccuracy": 0.97, "int8Accuracy": 0.965})
    folders.fetch(path="models/x", precision="int8")
    names = {file.name for file in folders.model.iterdir()}
    assert names == FILES | {"model.int8.tflite"}, "maps are made from the float network"


@pytest.mark.parametrize(
    ("quantization", "text"),
    [
        ({"floatAccuracy": 0.96, "int8Accuracy": 0.94}, "0.9400"),
        ({"floatAccuracy": 0.96}, "tells no accuracy"),
        (None, "tells no accuracy"),
    ],
)
def test_8_bits_that_cost_too_much_are_refused(
    folders: Folders, quantization: dict[str, float] | None, text: str
) -> None:
    with_int8(folders.artifact, quantization)
    failure = folders.refused(path="models/x", precision="int8")
    assert (failure.reason, failure.terminal) == ("QuantizationGateNotPassed", True)
    assert text in failure.message
    assert "precision: float32" in failure.message


def test_a_larger_drop_may_be_allowed(folders: Folders) -> None:
    with_int8(folders.artifact, {"floatAccuracy": 0.96, "int8Accuracy": 0.94})
    folders.fetch(path="models/x", precision="int8", maxAccuracyDrop=0.03)
    assert (folders.model / "model.int8.tflite").read_bytes() == b"8 bits"


def test_a_version_without_8_bits_says_so(folders: Folders) -> None:
    failure = folders.refused(path="models/x", precision="int8")
    assert failure.reason == "QuantizationGateNotPassed"
    assert "model.int8.tflite" in failure.message


def with_saved_model(folder: Path, *names: str) -> None:
    lines = (folder / "SHA256SUMS").read_text()
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
        lines += f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n"
    (folder / "SHA256SUMS").write_text(lines)


def test_tensorflow_gets_the_saved_model_and_no_other(folders: Folders) -> None:
    names = ("saved_model/saved_model.pb", "saved_model/variables/variables.index")
    with_saved_model(folders.artifact, *names)
    folders.fetch(path="models/x", engine="tensorflow")
    found = {str(file.relative_to(folders.model)) for file in folders.model.rglob("*") if file.is_file()}
    assert found == FILES - {"model.tflite"} | set(names)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ((), "no saved_model/"),
        (("saved_model/../../evil",), "'..'"),
        (tuple(f"saved_model/assets/{number}" for number in range(1001)), "more than 1000 files"),
    ],
)
def test_a_saved_model_that_is_none_is_refused(folders: Folders, names: tuple[str, ...], text: str) -> None:
    with_saved_model(folders.artifact, *names)
    failure = folders.refused(path="models/x", engine="tensorflow")
    assert (failure.reason, failure.terminal) == ("InvalidData", True)
    assert text in failure.message


@pytest.mark.parametrize("path", ["/etc", "../source", "models/../../x"])
def test_a_path_out_of_the_claim_is_refused(folders: Folders, path: str) -> None:
    failure = folders.refused(path=path)
    assert (failure.reason, failure.terminal) == ("InvalidSpec", True)


def test_links_do_not_lead_out_of_the_claim(folders: Folders, tmp_path: Path) -> None:
    write_artifact(tmp_path / "elsewhere")
    (folders.source / "link").symlink_to(tmp_path / "elsewhere")
    assert folders.refused(path="link").reason == "InvalidSpec"
    (folders.artifact / "metrics.json").unlink()
    (folders.artifact / "metrics.json").symlink_to(tmp_path / "elsewhere" / "metrics.json")
    assert folders.refused().reason == "InvalidData"
    (folders.artifact / "metrics.json").unlink()
    os.mkfifo(folders.artifact / "metrics.json")
    assert folders.refused().reason == "InvalidData"


def test_too_large_files_are_refused(folders: Folders) -> None:
    failure = folders.refused(path="models/x", max_bytes=4000)
    assert (failure.reason, failure.terminal) == ("InvalidData", True)


@pytest.mark.parametrize("task", [{"sha256": "0"}, {"path": "models/x", "url": "http://x/y.tar"}])
def test_exactly_one_source(folders: Folders, task: dict[str, str]) -> None:
    assert folders.refused(**task).reason == "InvalidSpec"


# -- archives over HTTP --------------------------------------------------------------------------------------


class Web:
    """An HTTP server whose next answers a test chooses; the last one is repeated."""

    def __init__(self) -> None:
        self.answers: list[Callable[[http.server.BaseHTTPRequestHandler], None]] = []
        self.requests = 0
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.requests += 1
                (web.answers.pop(0) if len(web.answers) > 1 else web.answers[0])(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/model.tar.gz"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def send(body: bytes, length: int | None = None) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        if length != -1:
            handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def status(code: int, **headers: str) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(download, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(download, "MAX_PAUSE_SECONDS", 0.01)
    server = Web()
    yield server
    server.close()


def packed(
    folder: Path, top: str = "", mode: str = "w:gz", change: Callable[..., None] | None = None
) -> bytes:
    """The artifact as an archive, with what `change(archive)` adds."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for file in sorted(folder.iterdir()):
            tar.add(file, top + file.name)
        if change:
            change(tar)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("top", ["", "./", "digits/", "./digits/"])
def test_an_archive_is_unpacked(folders: Folders, web: Web, top: str, mode: str) -> None:
    data = packed(folders.artifact, top, mode)
    web.answers = [send(data)]
    folders.fetch(url=web.url, sha256=hashlib.sha256(data).hexdigest())
    assert folders.complete()
    folders.fetch(url=web.url)
    assert folders.complete()


def test_an_archive_with_folders_that_serving_does_not_need(folders: Folders, web: Web) -> None:
    (folders.artifact / "saved_model" / "variables").mkdir(parents=True)
    (folders.artifact / "saved_model" / "SHA256SUMS").write_text("not ours")
    web.answers = [send(packed(folders.artifact))]
    folders.fetch(url=web.url)
    assert folders.complete()


def test_another_sha256_of_the_archive_is_a_mismatch(folders: Folders, web: Web) -> None:
    web.answers = [send(packed(folders.artifact))]
    failure = folders.refused(url=web.url, sha256="0" * 64)
    assert (failure.reason, failure.terminal) == ("ChecksumMismatch", True)


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b""
) -> Callable[..., None]:
    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, link, len(data)
        tar.addfile(info, io.BytesIO(data))

    return add


@pytest.mark.parametrize(
    "change",
    [
        member("../evil"),
        member("/tmp/evil"),
        member("digits/../../evil"),
        member("a\\..\\evil"),
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("link", tarfile.LNKTYPE, "model.tflite"),
        member("device", tarfile.CHRTYPE),
        member("pipe", tarfile.FIFOTYPE),
        member("model.tflite", data=b"again"),
        member("long", tarfile.GNUTYPE_LONGNAME, data=b"x" * 3_000_000),
        member("pax", tarfile.XHDTYPE, data=b"x" * 3_000_000),
    ],
)
def test_a_dangerous_archive_is_refused_and_writes_nothing(
    folders: Folders, web: Web, tmp_path: Path, change: Change
) -> None:
    web.answers = [send(packed(folders.artifact, change=change))]
    failure = folders.refused(url=web.url)
    assert (failure.reason, failure.terminal) == ("InvalidData", True)
    assert not (tmp_path / "evil").exists()
    assert not Path("/tmp/evil").exists()


def test_too_many_members_are_refused(folders: Folders, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 5)
    web.answers = [send(packed(folders.artifact))]
    assert "more than 5 members" in folders.refused(url=web.url).message


def test_what_unpacks_to_too_much_is_refused(folders: Folders, web: Web) -> None:
    (folders.artifact / "model.keras").write_bytes(b"\0" * 3_000_000)
    data = packed(folders.artifact)
    assert len(data) < 1_000_000
    web.answers = [send(data)]
    failure = folders.refused(url=web.url, max_bytes=1_000_000)
    assert (failure.reason, failure.terminal) == ("InvalidData", True)
    assert "unpacks to more than" in failure.message


@pytest.mark.parametrize("length", [None, -1])
def test_a_download_that_is_too_large_is_refused(folders: Folders, web: Web, length: int | None) -> None:
    web.answers = [send(b"x" * 5000, length)]
    failure = folders.refused(url=web.url, max_bytes=4000)
    assert (failure.reason, failure.terminal) == ("DownloadFailed", True)
    assert "4000" in failure.message
    assert web.requests == 1


@pytest.mark.parametrize(
    "data", [b"", b"no archive", gzip.compress(b"no archive"), gzip.compress(b"x" * 5000)[:-9], b"\x1f\x8b"]
)
def test_what_is_no_archive_is_refused(folders: Folders, web: Web, data: bytes) -> None:
    web.answers = [send(data)]
    assert folders.refused(url=web.url).reason in ("InvalidData", "SourceNotFound")


def test_a_cut_archive_is_refused(folders: Folders, web: Web) -> None:
    web.answers = [send(packed(folders.artifact)[:-200])]
    assert folders.refused(url=web.url).reason in ("InvalidData", "SourceNotFound")


@pytest.mark.parametrize(
    ("code", "terminal"), [(404, False), (400, True), (401, True), (403, True), (410, True)]
)
def test_a_refusal_is_named_and_not_repeated(folders: Folders, web: Web, code: int, terminal: bool) -> None:
    web.answers = [status(code)]
    failure = folders.refused(url=web.url)
    assert (failure.reason, failure.terminal) == ("DownloadFailed", terminal)
    assert str(code) in failure.message
    assert web.requests == 1


@pytest.mark.parametrize("fault", ["500", "503", "429", "cut", "reset"])
def test_a_fault_that_passes_is_overcome(folders: Folders, web: Web, fault: str) -> None:
    data = packed(folders.artifact)
    first = {
        "500": status(500),
        "503": status(503, Retry_After="1"),
        "429": status(429),
        "cut": send(data[:-100], len(data)),
        "reset": lambda handler: handler.connection.close(),
    }[fault]
    web.answers = [first, first, send(data)]
    folders.fetch(url=web.url)
    assert folders.complete()
    assert web.requests == 3


def test_a_fault_that_stays_ends_after_a_few_tries(folders: Folders, web: Web) -> None:
    web.answers = [status(503)]
    failure = folders.refused(url=web.url)
    assert (failure.reason, failure.terminal) == ("DownloadFailed", False)
    assert "503" in failure.message
    assert web.requests == download.TRIES


def test_a_redirect_is_followed_but_not_to_a_file(folders: Folders, web: Web) -> None:
    web.answers = [status(302, Location=web.url + "?again"), send(packed(folders.artifact))]
    folders.fetch(url=web.url)
    assert folders.complete()
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/x"):
        web.answers = [status(302, Location=target)]
        with pytest.raises(WorkloadError, match="redirect"):
            folders.fetch(url=web.url)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "data:,x", "http://", "http://a b/"])
def test_an_address_that_cannot_be_used_is_refused(folders: Folders, url: str) -> None:
    assert folders.refused(url=url).reason == "DownloadFailed"


def test_no_server_is_a_failed_download(folders: Folders, web: Web) -> None:
    web.close()
    failure = folders.refused(url=web.url)
    assert (failure.reason, failure.terminal) == ("DownloadFailed", False)


# -- the container -------------------------------------------------------------------------------------------


def run_container(root: Path, task: str) -> tuple[int, dict[str, object]]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "LEPTON_ROOT": str(root),
        "LEPTON_TASK": task,
        "LEPTON_TERMINATION_FILE": str(root / "termination"),
    }
    done = subprocess.run([sys.executable, "-m", "lepton_workloads.fetch"], env=environment, check=False)
    return done.returncode, json.loads((root / "termination").read_text())


def test_the_container_says_how_it_ended(tmp_path: Path) -> None:
    write_artifact(tmp_path / "lepton" / "source" / "x")
    assert run_container(tmp_path, '{"path": "x"}') == (0, {"version": 1, "terminal": False})
    assert {file.name for file in (tmp_path / "lepton" / "model").iterdir()} == FILES
    code, outcome = run_container(tmp_path, '{"path": "y"}')
    assert (code, outcome["reason"], outcome["terminal"]) == (EXIT_RETRY, "SourceNotFound", False)
    code, outcome = run_container(tmp_path, '{"path": "x", "more": 1}')
    assert (code, outcome["reason"], outcome["terminal"]) == (EXIT_TERMINAL, "InvalidSpec", True)
