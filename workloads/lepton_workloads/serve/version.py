"""The model version on disk: its signature, its explainer, its reference for drift, and the engine that runs it."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from lepton_workloads.contract.artifact import (
    EXPLAIN_FILE,
    INT8_FILE,
    LITERT_FILE,
    REFERENCE_FILE,
    SAVED_MODEL_DIR,
    SIGNATURE_FILE,
    Histogram,
    Reference,
    Signature,
)
from lepton_workloads.contract.outcome import Failure
from lepton_workloads.contract.serving import EngineName, Precision
from lepton_workloads.explain import FEATURES_OUTPUT, Explainer, load_explainer
from lepton_workloads.serve.engines.engine import Engine, Layers
from lepton_workloads.serve.engines.litert import LiteRtEngine
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


def read_reference(folder: Path, signature: Signature) -> Reference:
    """What drift is measured against, checked against itself and the signature.

    Raises:
        WorkloadError: terminal: `InvalidSpec` where the version has no such file, `InvalidData` where it can't be used.
    """
    file = folder / REFERENCE_FILE
    if not file.exists():
        message = (
            f"drift needs {REFERENCE_FILE}, which this version has not: remove drift from the LeptonModel, or let the "
            "program that makes the version write the file"
        )
        raise WorkloadError(Failure.INVALID_SPEC, message, terminal=True)
    try:
        reference = Reference.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise _invalid(f"{REFERENCE_FILE} can't be used: {error}") from error
    channels = signature.preprocessing.picture.channels
    if reference.samples < 1:
        raise _invalid(f"{REFERENCE_FILE}: samples must be 1 or more")
    if len(reference.predicted) != len(signature.labels) or not _are_shares(reference.predicted):
        raise _invalid(f"{REFERENCE_FILE}: predicted must hold a share for each of the labels, 1 in sum")
    if len(reference.channel_means) != channels:
        raise _invalid(f"{REFERENCE_FILE}: channelMeans must hold {channels}, one for each channel")
    histograms = {
        "brightness": reference.brightness,
        "contrast": reference.contrast,
        "confidence": reference.confidence,
        **{f"channelMeans[{number}]": histogram for number, histogram in enumerate(reference.channel_means)},
    }
    for name, histogram in histograms.items():
        if not _is_histogram(histogram):
            message = "edges must ascend, and shares be one more than edges, 1 in sum"
            raise _invalid(f"{REFERENCE_FILE}: {name}: {message}")
    return reference


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
        from lepton_workloads.serve.engines.saved_model import TensorFlowEngine

        return TensorFlowEngine(file, threads, output)
    layers = Layers(FEATURES_OUTPUT, explainer.sums_outputs) if explainer else None
    float_file = None if file.name == LITERT_FILE else file.with_name(LITERT_FILE)
    return LiteRtEngine(file, threads, output, layers=layers, layers_file=float_file)


def _is_histogram(histogram: Histogram) -> bool:
    ascend = all(low < high for low, high in pairwise(histogram.edges))
    return ascend and len(histogram.shares) == len(histogram.edges) + 1 and _are_shares(histogram.shares)


def _are_shares(values: list[float]) -> bool:
    return min(values) >= 0 and abs(sum(values) - 1) < 1e-3


def _invalid(message: str) -> WorkloadError:
    return WorkloadError(Failure.INVALID_DATA, message, terminal=True)
