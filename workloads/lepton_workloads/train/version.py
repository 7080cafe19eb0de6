"""Everything that a model version consists of, written by the chief into one folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lepton_workloads.contract.artifact import (
    EXPLAIN_FILE,
    LINEAGE_FILE,
    LITERT_FILE,
    METRICS_FILE,
    REFERENCE_FILE,
    REPORT_FILE,
    SIGNATURE_FILE,
    Lineage,
    Preprocessing,
    Signature,
    Tensor,
)
from lepton_workloads.contract.data import DatasetManifest, SplitName
from lepton_workloads.contract.outcome import TrainResult
from lepton_workloads.contract.tasks import DATASET_DIR, TrainTask
from lepton_workloads.decode import normalize
from lepton_workloads.explain import FEATURES_OUTPUT, Explainer
from lepton_workloads.paths import place
from lepton_workloads.report import ReportServer
from lepton_workloads.storage import folder_bytes
from lepton_workloads.train.artifact import write_checksums, write_json
from lepton_workloads.train.data import Dataset
from lepton_workloads.train.evaluate import judge
from lepton_workloads.train.explaining import explainer_of
from lepton_workloads.train.export import check_export, export, rebuild
from lepton_workloads.train.judge.figures import Evaluation, Labels, Probabilities, gate_value
from lepton_workloads.train.litert import LiteRtFile
from lepton_workloads.train.loop import Trained
from lepton_workloads.train.metrics import Metrics, Quantization
from lepton_workloads.train.network import INPUT, OUTPUT, weights_digest
from lepton_workloads.train.quantize import write_int8
from lepton_workloads.train.reference import reference_of
from lepton_workloads.train.report_page.examples import Example, most_wrong, source_files
from lepton_workloads.train.report_page.page import Story, report_html
from lepton_workloads.train.tensorboard import write_tensorboard


@dataclass(frozen=True)
class Judged:
    """A split and what the network made of it."""

    name: SplitName
    figures: Evaluation
    probabilities: Probabilities
    labels: Labels


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
        WorkloadError: ExportFailed, Diverged.
        OSError: the store.
    """
    manifest = dataset.manifest
    server.update(phase="Evaluating", eta_seconds=0.0)
    model = rebuild(trained.model, task.network, manifest.picture, len(manifest.labels))
    test = _judge(model, task, dataset, SplitName.TEST)
    watched = test
    if len(dataset.splits[SplitName.VALIDATION]):
        watched = _judge(model, task, dataset, SplitName.VALIDATION)
    write_json(folder / REFERENCE_FILE, reference_of(dataset, watched.name, watched.probabilities))
    server.update(phase="Exporting")
    export(model, task.network, folder)
    explainer = explainer_of(model, task.network)
    explainer.save(folder / EXPLAIN_FILE)
    served, difference = check_export(
        folder / LITERT_FILE, dataset.splits[watched.name], watched.probabilities, manifest.normalization
    )
    server.update(phase="Quantizing")
    quantization = write_int8(model, folder, dataset, watched.name, served, task.training.seed)
    server.update(phase="Reporting")
    metrics = _metrics(model, task, manifest.labels, trained, (test, watched), difference, quantization)
    lineage = Lineage(
        **facts,
        tensorflow=tf.__version__,
        keras=keras.__version__,
        weights_digest=weights_digest(model),
    )
    write_json(folder / METRICS_FILE, metrics)
    write_json(folder / SIGNATURE_FILE, _signature(manifest))
    write_json(folder / LINEAGE_FILE, lineage)
    write_tensorboard(folder, trained.history, test.figures)
    story = Story(task, manifest, metrics, lineage, _examples(folder, dataset, test, explainer))
    (folder / REPORT_FILE).write_text(report_html(story), encoding="utf-8")
    digest = write_checksums(folder)
    return _result(digest, lineage, metrics, folder_bytes(folder))


def _judge(model: Any, task: TrainTask, dataset: Dataset, name: SplitName) -> Judged:
    return Judged(name, *judge(model, task, dataset, name))


def _metrics(
    model: Any,
    task: TrainTask,
    labels: list[str],
    trained: Trained,
    judged: tuple[Judged, Judged],
    difference: float,
    quantization: Quantization,
) -> Metrics:
    test, watched = judged
    return Metrics(
        labels=labels,
        test=test.figures,
        validation=watched.figures if watched.name == SplitName.VALIDATION else None,
        gate_value=gate_value(task.gate, test.figures, labels),
        parameters=model.count_params(),
        seconds=trained.seconds,
        best_epoch=trained.best_epoch,
        stopped_early=trained.stopped_early,
        litert_difference=difference,
        quantization=quantization,
        history=trained.history,
    )


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


def _examples(folder: Path, dataset: Dataset, test: Judged, explainer: Explainer) -> list[Example]:
    """The most wrong pictures of the test split, explained by what the server will use."""
    chosen = most_wrong(test.probabilities, test.labels)
    files = source_files(place(DATASET_DIR), SplitName.TEST, chosen)
    network = LiteRtFile(folder / LITERT_FILE, 1)
    return [_example(number, dataset, test, explainer, network, files.get(number)) for number in chosen]


def _example(
    number: int, dataset: Dataset, test: Judged, explainer: Explainer, network: LiteRtFile, file: str | None
) -> Example:
    pixels = np.array(dataset.splits[SplitName.TEST].images[number])
    true, predicted = int(test.labels[number]), int(test.probabilities[number].argmax())
    outputs = network.run(normalize(pixels[None], dataset.manifest.normalization))
    sums = [outputs[name][0] for name in explainer.sums_outputs]
    return Example(
        pixels=pixels,
        map=explainer.map(outputs[FEATURES_OUTPUT][0], sums, predicted),
        true=true,
        predicted=predicted,
        true_probability=float(test.probabilities[number, true]),
        predicted_probability=float(test.probabilities[number, predicted]),
        file=file,
    )


def _result(digest: str, lineage: Lineage, metrics: Metrics, size: int) -> TrainResult:
    last, test, quantization = metrics.history[-1], metrics.test, metrics.quantization
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
        gate_value=metrics.gate_value,
        int8_accuracy=quantization.int8_accuracy,
        float_accuracy=quantization.float_accuracy,
        epochs=last.epoch,
        best_epoch=metrics.best_epoch,
        stopped_early=metrics.stopped_early,
        seconds=metrics.seconds,
        parameters=metrics.parameters,
        bytes=size,
        code_version=lineage.code_version,
        tensorflow=lineage.tensorflow,
    )
