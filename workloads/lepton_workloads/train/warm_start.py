"""Weights of an earlier version as the beginning of a training."""

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import keras

from lepton_workloads.contract.artifact import CHECKSUMS_FILE, KERAS_FILE
from lepton_workloads.contract.outcome import Failure
from lepton_workloads.logs import Log
from lepton_workloads.storage import sha256_of
from lepton_workloads.termination import WorkloadError, printable
from lepton_workloads.train.network import OUTPUT

log = Log(__name__)


def load_weights(model: Any, version: Path, frozen_layers: Sequence[str] = ()) -> None:
    """Copy a version's weights into `model`, layer by layer by name, and freeze layers.

    Where the classes differ, the last layer begins anew.

    Args:
        model: a network of `build_network`, not compiled; its optimizer is made afterwards, for what is not frozen.
        version: the folder `models/<digest>`.

    Raises:
        WorkloadError: ChecksumMismatch, InvalidSpec.
        OSError: the store.
    """
    earlier = {layer.name: layer for layer in _load(version).layers if layer.weights}
    layers = [layer for layer in model.layers if layer.weights]
    unused = earlier.keys() - {layer.name for layer in layers}
    if unused:
        log.warning("Left layers of the earlier version out", digest=version.name, layers=sorted(unused))
    new = {layer.name for layer in layers if not _copied(layer, earlier.get(layer.name))}
    _freeze(model, frozen_layers, new)
    log.info("Began with the weights of a version", digest=version.name, frozen=list(frozen_layers))


def _load(version: Path) -> Any:
    """The Keras file, once its checksum is right; nothing in it is run."""
    sums = (version / CHECKSUMS_FILE).read_bytes()
    wanted = {
        name: digest for digest, _, name in (line.partition("  ") for line in sums.decode().splitlines())
    }
    name = version.name[:12]
    right = hashlib.sha256(sums).hexdigest() == version.name
    if right and KERAS_FILE not in wanted:
        text = f"warm start: version {name} holds no {KERAS_FILE}: begin with one of a job with network.type: cnn"
        raise WorkloadError(Failure.INVALID_SPEC, text, terminal=True)
    if not right or sha256_of(version / KERAS_FILE) != wanted[KERAS_FILE]:
        text = f"warm start: version {name} is not what its checksums say: begin with another one"
        raise WorkloadError(Failure.CHECKSUM_MISMATCH, text, terminal=True)
    try:
        return keras.saving.load_model(version / KERAS_FILE, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError) as error:
        text = f"warm start: {KERAS_FILE} of version {name} can't be loaded: {error}"
        raise WorkloadError(Failure.INVALID_SPEC, printable(text, 600), terminal=True) from error


def _copied(layer: Any, earlier: Any) -> bool:
    """Copy a layer's weights; False when it is the last layer, which begins anew."""
    wanted = [tuple(weight.shape) for weight in layer.weights]
    found = [tuple(weight.shape) for weight in earlier.weights] if earlier is not None else None
    if found == wanted:
        layer.set_weights(earlier.get_weights())
        return True
    if layer.name == OUTPUT and found is not None and found[0][0] == wanted[0][0]:
        log.info("The last layer begins anew: the classes differ", before=found[0][1], now=wanted[0][1])
        return False
    there = f"has {found}" if found is not None else "has no such layer"
    text = (
        f"warm start: layer {layer.name} has weights of shape {wanted}, the earlier version {there}: describe "
        "the same network, or leave warmStart out"
    )
    raise WorkloadError(Failure.INVALID_SPEC, text, terminal=True)


def _freeze(model: Any, names: Sequence[str], new: Collection[str]) -> None:
    """Batch normalization that is frozen also keeps its moving statistics."""
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    for name in names:
        if name not in layers:
            text = f"warm start: there is no layer {name} to freeze; there are {', '.join(layers)}"
            raise WorkloadError(Failure.INVALID_SPEC, text, terminal=True)
        if name in new:
            text = (
                f"warm start: layer {name} begins anew, since the classes differ, and would stay as it is by chance: "
                "leave it out of frozenLayers"
            )
            raise WorkloadError(Failure.INVALID_SPEC, text, terminal=True)
        layers[name].trainable = False
    if not model.trainable_variables:
        text = (
            "warm start: all layers are frozen, so there is nothing to train: leave one out of frozenLayers"
        )
        raise WorkloadError(Failure.INVALID_SPEC, text, terminal=True)
