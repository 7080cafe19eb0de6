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
from lepton_workloads.train.evaluate import judge
from lepton_workloads.train.export import check_export, export, rebuild
from lepton_workloads.train.judge.figures import Evaluation, gate_value
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
    figures, expected, _ = judge(model, task, dataset, SplitName.TEST)
    compared, validation = SplitName.TEST, None
    if len(dataset.splits[SplitName.VALIDATION]):
        compared = SplitName.VALIDATION
        validation, expected, _ = judge(model, task, dataset, SplitName.VALIDATION)
    server.update(phase="Exporting")
    export(model, folder)
    metrics = Metrics(
        labels=manifest.labels,
        test=figures,
        validation=validation,
        parameters=model.count_params(),
        seconds=trained.seconds,
        litert_difference=check_export(
            folder / LITERT_FILE, dataset.splits[compared], expected, manifest.normalization
        ),
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
    return _result(digest, lineage, metrics, folder_bytes(folder), task, trained)


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


def _result(
    digest: str, lineage: Lineage, metrics: Metrics, size: int, task: TrainTask, trained: Trained
) -> TrainResult:
    last, test = metrics.history[-1], metrics.test
    return TrainResult(
        digest=digest,
        weights_digest=lineage.weights_digest,
        test_accuracy=test.accuracy,
        test_loss=test.loss,
        validation_accuracy=metrics.validation.accuracy if metrics.validation else None,
        validation_loss=metrics.validation.loss if metrics.validation else None,
        train_accuracy=last.accuracy,
        train_loss=last.loss,
        precision=test.precision,
        recall=test.recall,
        f1=test.f1,
        top_k_accuracy=test.top_k_accuracy,
        expected_calibration_error=test.expected_calibration_error,
        gate_value=gate_value(task.gate, test, metrics.labels),
        epochs=last.epoch,
        best_epoch=trained.best_epoch,
        stopped_early=trained.stopped_early,
        seconds=metrics.seconds,
        parameters=metrics.parameters,
        bytes=size,
        code_version=lineage.code_version,
        tensorflow=lineage.tensorflow,
    )
