"""The servers that are compared, and how each is started and asked."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.serving.environments import PEERS, python_of
from bench.serving.network import NAME, ROOT, Network
from bench.serving.requests import Builder, infer_v2, predict_v1, raw
from lepton_workloads.contract.tasks import TASK_ENV, THREADS_ENV, ServeTask
from lepton_workloads.paths import ROOT_ENV
from lepton_workloads.report import REPORT_PORT_ENV
from lepton_workloads.serve.settings import ACCESS_LOG_ENV, PORT_ENV

LEPTON, INT8, BARE = "lepton", "lepton-int8", "bare"
SLOW_ENGINE, ONNX_RUNTIME = "model.predict", "ONNX Runtime"


@dataclass(frozen=True, slots=True)
class Server:
    """One server, with one engine."""

    name: str
    words: str
    engine: str
    arguments: tuple[str, ...]
    """What its interpreter is told."""
    requests: Mapping[str, Builder]
    """By kind; what is missing it doesn't know."""
    environment: str | None = None
    """Its virtual environment; None is the project's own."""
    variables: Mapping[str, str] = field(default_factory=dict)
    expected: str = "float32"
    """Which answer to the tensor is right."""

    @property
    def slow(self) -> bool:
        """A hundred times slower than the others: one round tells enough."""
        return self.engine == SLOW_ENGINE

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return python_of(self.environment) if self.environment else Path(sys.executable)

    def settings(self, network: Network, port: int) -> dict[str, str]:
        """Its environment variables beside the usual ones."""
        if self.environment is None and self.name != BARE:
            return _lepton(network, port, self.expected)
        return {
            "BENCH_NETWORK": str(network.folder),
            "BENCH_PORT": str(port),
            "PYTHONPATH": str(PEERS),
            **{
                name: value.format(port=port, network=network.folder)
                for name, value in self.variables.items()
            },
        }

    def command(self, port: int) -> list[str]:
        """The whole command line."""
        return [str(self.python), *(argument.format(port=port) for argument in self.arguments)]


def _lepton(network: Network, port: int, precision: str) -> dict[str, str]:
    task = ServeTask.model_validate({"name": NAME, "version": "0123456789ab", "precision": precision})
    return {
        "PYTHONPATH": f"{ROOT / 'workloads'}",
        ROOT_ENV: str(network.root),
        TASK_ENV: task.to_json(),
        PORT_ENV: str(port),
        REPORT_PORT_ENV: "0",
        THREADS_ENV: "1",
        ACCESS_LOG_ENV: "1",
        "LEPTON_TERMINATION_FILE": str(network.folder / "termination"),
    }


def _program(name: str) -> tuple[str, ...]:
    return (str(PEERS / f"{name}.py"),)


V1 = predict_v1()
OWN = {"json": V1, "binary": infer_v2, "small": raw("/classify?top=10"), "large": raw("/classify?top=10")}
IN_KSERVE = {"json": V1, "binary": infer_v2, "small": V1, "large": V1}
IN_FASTAPI = {"json": V1, "binary": raw("/tensor"), "small": raw("/classify"), "large": raw("/classify")}
IN_BENTOML = {
    "json": predict_v1("/predict"),
    "binary": raw("/tensor"),
    "small": raw("/classify"),
    "large": raw("/classify"),
}
IN_LITSERVE = {"json": V1, "small": V1, "large": V1}
IN_MOSEC = {
    "json": predict_v1("/inference"),
    "binary": raw("/inference"),
    "small": raw("/inference"),
    "large": raw("/inference"),
}
KERAS = {"BENCH_ENGINE": "keras"}
ONNX = {"BENCH_ENGINE": "onnx"}
LITERT = {"BENCH_ENGINE": "litert"}

_SERVE = ("-m", "lepton_workloads.serve")
_BENTO = (
    "-m", "bentoml", "serve", "bento_service:Network", f"--working-dir={PEERS}", "--host=127.0.0.1",
    "--port={port}",
)  # fmt: skip
_BENTO_VARIABLES = {**KERAS, "BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": "{network}/bentoml"}

SERVERS = (
    Server(LEPTON, "Lepton", "LiteRT", _SERVE, OWN),
    Server(
        INT8, "Lepton, int8", "LiteRT", _SERVE, {kind: OWN[kind] for kind in ("json", "binary")},
        expected="int8",
    ),
    Server(
        BARE, "bare engine behind uvicorn", "LiteRT", _program("bare_app"), {"binary": raw("/")},
        variables=LITERT,
    ),
    Server(
        "kserve-onnx", "KServe", ONNX_RUNTIME, _program("kserve_server"), IN_KSERVE, "kserve", ONNX,
    ),
    Server(
        "fastapi-onnx", "FastAPI", ONNX_RUNTIME, _program("fastapi_app"), IN_FASTAPI, "kserve", ONNX,
    ),
    Server(
        "fastapi-litert", "FastAPI", "LiteRT", _program("fastapi_app"), {"large": raw("/classify")}, "kserve",
        LITERT,
    ),
    Server(
        "fastapi-draft", "FastAPI, JPEGs shrunk by their decoder", "LiteRT", _program("fastapi_app"),
        {"large": raw("/classify")}, "kserve", {**LITERT, "BENCH_DRAFT": "1"},
    ),
    Server("kserve-keras", "KServe", SLOW_ENGINE, _program("kserve_server"), IN_KSERVE, "kserve", KERAS),
    Server("fastapi-keras", "FastAPI", SLOW_ENGINE, _program("fastapi_app"), IN_FASTAPI, "kserve", KERAS),
    Server("bentoml", "BentoML", SLOW_ENGINE, _BENTO, IN_BENTOML, "others", _BENTO_VARIABLES),
    Server("litserve", "LitServe", SLOW_ENGINE, _program("litserve_server"), IN_LITSERVE, "others", KERAS),
    Server("mosec", "mosec", SLOW_ENGINE, _program("mosec_server"), IN_MOSEC, "others", KERAS),
)  # fmt: skip
BY_NAME = {server.name: server for server in SERVERS}
