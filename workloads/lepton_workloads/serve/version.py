"""The model version on disk: its signature, its explainer, and the engine that runs it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from lepton_workloads.contract.artifact import (
    EXPLAIN_FILE,
    INT8_FILE,
    LITERT_FILE,
    SAVED_MODEL_DIR,
    SIGNATURE_FILE,
    Signature,
)
from lepton_workloads.contract.outcome import Failure
from lepton_workloads.contract.serving import EngineName, Precision
from lepton_workloads.explain import FEATURES_OUTPUT, Explainer, load_explainer
from lepton_workloads.serve.engine import Engine, Layers, LiteRtEngine
from lepton_workloads.termination import WorkloadError


def read_signature(folder: Path) -> Signature:
    """`signature.json`, checked against itself.

    Raises:
        WorkloadError: `InvalidData`, terminal.
    """
    try:
        signature = Signature.model_validate_json((folder / SIGNATURE_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise _invalid(f"{SIGNATURE_FILE} can't be used: {error}") from error
    picture = signature.preprocessing.picture
    if not signature.inputs or not signature.outputs or not signature.labels:
        raise _invalid(f"{SIGNATURE_FILE}: inputs, outputs and labels must not be empty")
    if signature.inputs[0].shape != [-1, picture.height, picture.width, picture.channels]:
        raise _invalid(f"{SIGNATURE_FILE}: the input's shape is not that of the picture")
    if signature.outputs[0].shape != [-1, len(signature.labels)]:
        raise _invalid(f"{SIGNATURE_FILE}: the output's shape is not one number for each label")
    return signature


def read_explainer(folder: Path, engine: EngineName) -> Explainer | None:
    """What maps are made with; None where the version has no such file, or the engine shows no layers.

    Raises:
        WorkloadError: `InvalidData`, terminal: the file can't be used.
    """
    if engine != "litert" or not (folder / EXPLAIN_FILE).exists():
        return None
    try:
        return load_explainer(folder / EXPLAIN_FILE)
    except (OSError, ValueError) as error:
        raise _invalid(f"{EXPLAIN_FILE} can't be used: {error}") from error


def engine_loader(
    folder: Path,
    signature: Signature,
    threads: int,
    *,
    engine: EngineName = "litert",
    precision: Precision = "float32",
    explainer: Explainer | None = None,
) -> Callable[[], Engine]:
    """What loads the engine, checks it against the signature and tries it once.

    The loader raises WorkloadError (`InvalidData`, terminal) when the file can't be used.
    """
    names = {"litert": {"float32": LITERT_FILE, "int8": INT8_FILE}[precision], "tensorflow": SAVED_MODEL_DIR}

    def load() -> Engine:
        shape = tuple(signature.inputs[0].shape[1:])
        file = folder / names[engine]
        try:
            loaded = _load(file, engine, signature, threads, explainer)
            if loaded.input_shape != shape or loaded.output_size != len(signature.labels):
                found = f"{list(loaded.input_shape)} and {loaded.output_size}"
                raise ValueError(f"input and output are {found}, not those of {SIGNATURE_FILE}")
            loaded.predict(np.zeros((1, *shape), np.float32))
        except (OSError, ValueError) as error:
            raise _invalid(f"{names[engine]} can't be used: {error}") from error
        return loaded

    return load


def _load(
    file: Path, engine: EngineName, signature: Signature, threads: int, explainer: Explainer | None
) -> Engine:
    output = signature.outputs[0].name
    if engine == "tensorflow":
        from lepton_workloads.serve.tensorflow_engine import TensorFlowEngine

        return TensorFlowEngine(file, threads, output)
    layers = Layers(FEATURES_OUTPUT, explainer.sums_outputs) if explainer else None
    float_file = None if file.name == LITERT_FILE else file.with_name(LITERT_FILE)
    return LiteRtEngine(file, threads, output, layers=layers, layers_file=float_file)


def _invalid(message: str) -> WorkloadError:
    return WorkloadError(Failure.INVALID_DATA, message, terminal=True)
