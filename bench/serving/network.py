"""The network that all servers serve, made by Lepton's own preparing and training, and what it must answer.

It is trained once on generated pictures, and kept below the cache until the code that makes it changes.
"""

import asyncio
import hashlib
import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.client import BenchError
from bench.serving.environments import cache_folder

ROOT = Path(__file__).parents[2]
MAKER = ROOT / "bench/serving/making.py"
ONNX_MAKER = ROOT / "bench/serving/peers/to_onnx.py"
CODE = ("prepare", "train", "contract")
"""Folders of lepton_workloads that decide what is made."""
KEPT = "network"
NAME = "digits"
"""The model's name in all requests."""
INPUT, OUTPUT = "image", "probabilities"
SHAPE = (1, 32, 32, 3)
CLASSES = 10


@dataclass(frozen=True, slots=True)
class Network:
    """A folder with the network in all its forms, and with what is sent to it."""

    folder: Path

    @property
    def root(self) -> Path:
        """LEPTON_ROOT of the server: its model is in `lepton/model`."""
        return self.folder / "root"

    @property
    def model(self) -> Path:
        """The version that training wrote: model.keras, saved_model, model.tflite, model.int8.tflite and more."""
        return self.root / "lepton/model"

    @property
    def onnx(self) -> Path:
        """The same for ONNX Runtime."""
        return self.folder / "model.onnx"

    def tensor(self) -> bytes:
        """One input of the network, float32, little-endian."""
        return (self.folder / "tensor.bin").read_bytes()

    def picture(self, size: str) -> bytes:
        """A JPEG file: `small` (32 x 32) or `large` (640 x 480)."""
        return (self.folder / f"{size}.jpg").read_bytes()

    def expected(self) -> dict[str, list[float]]:
        """Probabilities: of the tensor by `float32` and `int8`, of the pictures by `small` and `large`."""
        found: dict[str, list[float]] = json.loads((self.folder / "expected.json").read_text())
        return found


async def made() -> Network:
    """The network, without ONNX.

    Raises:
        BenchError: it can't be made.
    """
    network = Network(cache_folder() / f"{KEPT}-{_digest()}")
    if not network.folder.exists():
        for old in network.folder.parent.glob(f"{KEPT}-*"):
            shutil.rmtree(old)
        network.folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=network.folder.parent, prefix=".making-") as temporary:
            await _call(sys.executable, "-m", "bench.serving.making", temporary)
            (Path(temporary) / "made").rename(network.folder)
    return network


async def add_onnx(network: Network, python: Path) -> None:
    """Convert it for ONNX Runtime, where that has not been done.

    Args:
        python: interpreter with Keras, onnx and tf2onnx.

    Raises:
        BenchError: it can't be converted.
    """
    if not network.onnx.exists():
        unfinished = network.folder / "unfinished.onnx"
        await _call(str(python), str(ONNX_MAKER), str(network.model / "model.keras"), str(unfinished))
        unfinished.rename(network.onnx)


def _digest() -> str:
    total = hashlib.sha256()
    folders = [ROOT / "workloads/lepton_workloads" / name for name in CODE]
    for file in [MAKER, ONNX_MAKER, *sorted(path for folder in folders for path in folder.rglob("*.py"))]:
        total.update(file.read_bytes())
    return total.hexdigest()[:12]


async def _call(*command: str) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LEPTON_")}
    environment |= {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": os.pathsep.join((f"{ROOT / 'workloads'}", f"{ROOT}")),
    }
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise BenchError(f"{' '.join(command)} ended with {process.returncode}: {output.decode()[-2000:]}")
