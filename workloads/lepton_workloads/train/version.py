"""Everything that a model version consists of, written by the chief into one folder."""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from lepton_workloads.contract.artifact import (
    LINEAGE_FILE,
    LITERT_FILE,
    METRICS_FILE,
    SIGNATURE_FILE,
    Lineage,
    Preprocessing,
    Signature,
    Tensor,
)
from lepton_workloads.contract.base import Record
from lepton_workloads.contract.data import DatasetManifest, SplitName
from lepton_workloads.contract.outcome import Epoch, TrainResult
from lepton_workloads.contract.tasks import TrainTask
from lepton_workloads.report import ReportServer
from lepton_workloads.storage import folder_bytes
from lepton_workloads.train.artifact import write_checksums, write_json
from lepton_workloads.train.data import Dataset
from lepton_workloads.train.evaluate import Evaluation, evaluate, predict
from lepton_workloads.train.export import check_export, export, rebuild
from lepton_workloads.train.loop import Trained
from lepton_workloads.train.network import INPUT, OUTPUT, weights_digest


class Metrics(Record):
    """`metrics.json`: all figures of a version; the status holds only the few that people sort by."""

    version: int = 1
    labels: list[str]
    test: Evaluation
    validation: Evaluation | None = None
    parameters: int
    seconds: float
    """Wall time of the training loop."""
    litert_difference: float
    """Largest difference of a probability between model.tflite and Keras."""
    history: list[Epoch]


def write_version(
    folder: Path,
    task: TrainTask,
    dataset: Dataset,
    trained: Trained,
    server: ReportServer,
    facts: dict[str, Any],
) -> TrainResult:
    """Judge and export the trained network and write its files; the result names the digest.

    Args:
        facts: the lineage's fields that don't come from the network.

    Raises:
        WorkloadError: ExportFailed.
        OSError: the store.
    """
    manifest = dataset.manifest
    server.update(phase="Evaluating", eta_seconds=0.0)
    model = rebuild(trained.model, task.network, manifest.picture, len(manifest.labels))
    test = dataset.splits[SplitName.TEST]
    probabilities = predict(model, test, manifest.normalization)
    figures = evaluate(probabilities, test.labels)
    compared, expected, validation = test, probabilities, None
    if len(split := dataset.splits[SplitName.VALIDATION]):
        compared, expected = split, predict(model, split, manifest.normalization)
        validation = evaluate(expected, split.labels)
    server.update(phase="Exporting")
    export(model, folder)
    metrics = Metrics(
        labels=manifest.labels,
        test=figures,
        validation=validation,
        parameters=model.count_params(),
        seconds=trained.seconds,
        litert_difference=check_export(folder / LITERT_FILE, compared, expected, manifest.normalization),
        history=trained.history,
    )
    write_json(folder / METRICS_FILE, metrics)
    write_json(folder / SIGNATURE_FILE, _signature(manifest))
    lineage = Lineage(
        **facts,
        tensorflow=tf.__version__,
        keras=keras.__version__,
        weights_digest=weights_digest(model),
    )
    write_json(folder / LINEAGE_FILE, lineage)
    digest = write_checksums(folder)
    return _result(digest, lineage, metrics, folder_bytes(folder))


def _signature(manifest: DatasetManifest) -> Signature:
    picture = manifest.picture
    return Signature(
        inputs=[Tensor(name=INPUT, shape=[-1, picture.height, picture.width, picture.channels])],
        outputs=[Tensor(name=OUTPUT, shape=[-1, len(manifest.labels)])],
        labels=manifest.labels,
        preprocessing=Preprocessing(
            picture=picture, normalization=manifest.normalization, decoder=manifest.decoder
        ),
    )


def _result(digest: str, lineage: Lineage, metrics: Metrics, size: int) -> TrainResult:
    last = metrics.history[-1]
    return TrainResult(
        digest=digest,
        weights_digest=lineage.weights_digest,
        test_accuracy=metrics.test.accuracy,
        test_loss=metrics.test.loss,
        validation_accuracy=metrics.validation.accuracy if metrics.validation else None,
        validation_loss=metrics.validation.loss if metrics.validation else None,
        train_accuracy=last.accuracy,
        train_loss=last.loss,
        epochs=last.epoch,
        seconds=metrics.seconds,
        parameters=metrics.parameters,
        bytes=size,
        code_version=lineage.code_version,
        tensorflow=lineage.tensorflow,
    )
