"""Clients, models and servers for the tests of serving; the client is the standard library's."""

import asyncio
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

from lepton_workloads.contract.artifact import Preprocessing, Signature, Tensor
from lepton_workloads.contract.data import Normalization, Picture
from lepton_workloads.contract.tasks import ServeTask
from lepton_workloads.report import ReportServer
from lepton_workloads.serve.runner import compose, listen, run
from lepton_workloads.serve.settings import Settings

TINY = Path(__file__).parent / "data" / "tiny.tflite"
SHAPE = (6, 8, 3)
LABELS = ["ant", "bee", "cat", "dög"]
TASK = ServeTask(name="digits", version="0123456789ab", max_request_bytes=200_000, drain_seconds=10)
DEADLINE_SECONDS = 30.0
FORM = "multipart/form-data; boundary=XyZ"
SIGNATURE = Signature(
    inputs=[Tensor(name="pixels", shape=[-1, *SHAPE])],
    outputs=[Tensor(name="probabilities", shape=[-1, len(LABELS)])],
    labels=LABELS,
    preprocessing=Preprocessing(
        picture=Picture(height=SHAPE[0], width=SHAPE[1], channels=3, fit="stretch"),
        normalization=Normalization(scale=1 / 127.5, offset=-1.0),
        decoder="pillow 13.0.0",
    ),
)


def until(condition: Callable[[], Any], what: str) -> Any:
    """The condition's first true value."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {DEADLINE_SECONDS} s for {what}")


def write_artifact(folder: Path, model: bytes | None = None) -> str:
    """The serving files of an artifact; returns its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.tflite").write_bytes(TINY.read_bytes() if model is None else model)
    (folder / "signature.json").write_text(SIGNATURE.to_json())
    (folder / "metrics.json").write_text('{"testAccuracy": 0.9}')
    (folder / "lineage.json").write_text("{}")
    (folder / "model.keras").write_bytes(b"only for training")
    names = sorted(file.name for file in folder.iterdir() if file.name != "SHA256SUMS")
    sums = "".join(f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names)
    (folder / "SHA256SUMS").write_text(sums)
    return hashlib.sha256(sums.encode()).hexdigest()


def litert(batch: np.ndarray) -> np.ndarray:
    """What the bare interpreter answers to normalised inputs (N, 6, 8, 3)."""
    interpreter = Interpreter(model_path=str(TINY), num_threads=1)
    interpreter.allocate_tensors()
    answers = []
    for one in batch.astype(np.float32):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], one[None])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.array(answers)


def picture(kind: str = "PNG", seed: int = 0, size: tuple[int, int] = (SHAPE[1], SHAPE[0])) -> bytes:
    """A picture file of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def part(data: bytes, disposition: str = 'form-data; name="file"; filename="a.png"', more: str = "") -> bytes:
    """A part of a form of the type FORM."""
    head = f"--XyZ\r\nContent-Disposition: {disposition}\r\n{more}\r\n".encode()
    return head + data + b"\r\n"


def form(*parts: bytes) -> bytes:
    """The form of these parts."""
    return b"".join(parts) + b"--XyZ--\r\n"


def png_input(seed: int = 0) -> np.ndarray:
    """The network's input for `picture("PNG", seed)`, whose size needs no resizing."""
    pixels = np.asarray(Image.open(io.BytesIO(picture("PNG", seed))))
    return pixels.astype(np.float32) * np.float32(1 / 127.5) + np.float32(-1.0)


@dataclass
class Answer:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, in strict JSON: NaN and Infinity are refused."""
        return json.loads(self.body, parse_constant=lambda word: (_ for _ in ()).throw(ValueError(word)))

    @property
    def error(self) -> str:
        """The sentence of an error answer."""
        content = self.json()
        assert list(content) == ["error"], content
        assert self.headers["content-type"] == "application/json"
        return content["error"]


class Client:
    """One connection for each request."""

    def __init__(self, port: int) -> None:
        self.port = port

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            return read(connection)
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def predict(self, content: Any, path: str = "/v1/models/digits:predict") -> Answer:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.ask("POST", path, body, {"Content-Type": "application/json"})

    def metric(self, pattern: str) -> float:
        """Value of the first series whose line starts with this regular expression."""
        match = re.search(rf"^{pattern}\S* (\S+)$", self.get("/metrics").body.decode(), re.MULTILINE)
        return float(match[1]) if match else 0.0

    def ready(self) -> bool:
        try:
            return self.get("/readyz").status == 200
        except OSError:
            return False


def read(connection: http.client.HTTPConnection) -> Answer:
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


class Process(Client):
    """`python -m lepton_workloads.serve` with its volumes below `root`; the port is told by its log."""

    def __init__(self, root: Path, **environment: str) -> None:
        super().__init__(0)
        self.grpc_port = 0
        self.report_port = 0
        self.log = root / "log"
        self.termination = root / "termination"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lepton_workloads.serve"],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(sys.path),
                    "LEPTON_ROOT": str(root),
                    "LEPTON_TASK": TASK.to_json(),
                    "LEPTON_HTTP_PORT": "0",
                    "LEPTON_GRPC_PORT": "0",
                    "LEPTON_REPORT_PORT": "0",
                    "LEPTON_TERMINATION_FILE": str(self.termination),
                    **environment,
                },
            )

    def lines(self, message: str) -> list[dict[str, Any]]:
        """Log lines with this message."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["message"] == message]

    def wait_ready(self) -> "Process":
        def ready() -> Any:
            assert self.process.poll() is None, self.log.read_text()
            return self.lines("Ready")

        told = until(ready, "the server")[0]
        self.port = told["port"]
        self.grpc_port = told.get("grpc_port", 0)
        self.report_port = told["report_port"]
        assert self.ready()
        return self

    def outcome(self) -> tuple[int, dict[str, Any]]:
        """Exit code and termination message, once the process has ended."""
        return self.process.wait(DEADLINE_SECONDS), json.loads(self.termination.read_text())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class FakeEngine:
    """An engine whose answers wait for `gate`, or are what `answer` makes of the batch."""

    input_shape = SHAPE
    output_size = len(LABELS)
    batch = 1

    def __init__(self, answer: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self._answer = answer

    def predict(self, batch: np.ndarray) -> np.ndarray:
        if self._answer:
            return self._answer(batch)
        self.entered.set()
        assert self.gate.wait(DEADLINE_SECONDS)
        return np.full((len(batch), len(LABELS)), 0.25, np.float32)


class InProcess(Client):
    """The server in a thread of the test, for engines that a test controls."""

    def __init__(
        self, load: Callable[[], Any], task: ServeTask = TASK, reports: ReportServer | None = None
    ) -> None:
        settings = Settings(
            task=task, model_dir=Path("/nowhere"), port=0, threads=1, access_log=0, grpc_port=0
        )
        self.server, self.model = compose(settings, SIGNATURE, load)
        self._listener = listen(0)
        self._reports = reports
        super().__init__(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self.server.config.get_loop_factory()) as runner:
            runner.run(run(self.server, self.model, self._listener, self._reports))

    def stop(self) -> None:
        self.server.stop()
        self._thread.join(DEADLINE_SECONDS)
        assert not self._thread.is_alive()


def in_thread(work: Callable[[], Answer]) -> tuple[threading.Thread, list[Answer]]:
    """Runs a request beside the test; the answer appears in the list."""
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(work()), daemon=True)
    thread.start()
    return thread, answers


def copy_folder(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))
