"""Pages of `report.html` for tests, told without a training."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lepton_workloads.contract.artifact import Lineage
from lepton_workloads.contract.data import DatasetManifest, Normalization, Picture, SplitInfo, SplitName
from lepton_workloads.contract.outcome import Epoch
from lepton_workloads.train.judge.figures import evaluate, gate_value
from lepton_workloads.train.metrics import Metrics, Quantization
from lepton_workloads.train.report_page.examples import Example, most_wrong
from lepton_workloads.train.report_page.page import Story

from .training import task_of

KEY = "ab" * 32
HOSTILE = [
    "<script>document.title='owned'</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></title><h1>not a heading</h1>",
    "&amp; it's \u202eright to left",
    "javascript:alert(1)" + "x" * 240,
    "null\x00 and \x1b[31m red",
    "日本語のとても長いラベル" * 8,
    "  ",
]
"""Labels as a person would choose them who means no good."""


def epochs(count: int, validation: bool = True) -> list[Epoch]:
    """A training that gets better and better."""
    return [
        Epoch(
            epoch=number,
            loss=2 / number,
            accuracy=1 - 0.6 / number,
            validation_loss=2.2 / number if validation else None,
            validation_accuracy=1 - 0.7 / number if validation else None,
            seconds=1.5,
            images_per_second=900.0,
            learning_rate=0.001 * 0.5 ** (number / count),
        )
        for number in range(1, count + 1)
    ]


def story(
    labels: Sequence[str] = ("cat", "dog", "owl"),
    history: int = 5,
    files: Sequence[str] = (),
    size: tuple[int, int, int] = (16, 16, 3),
    right: bool = False,
    **task: Any,
) -> Story:
    """Figures of random answers to 12 pictures a class, about half of them wrong; with `right` none."""
    random = np.random.default_rng(4)
    names, classes = list(labels), len(labels)
    true = np.tile(np.arange(classes, dtype=np.int32), 12)
    seen = true if right else np.where(random.random(len(true)) < 0.5, true, random.permutation(true))
    strength = random.random((len(true), 1)) + right
    drawn = random.dirichlet(np.ones(classes), len(true)) + np.eye(classes)[seen] * strength
    probabilities = (drawn / drawn.sum(axis=1, keepdims=True)).astype(np.float32)
    told = task_of(KEY, job="vision/animals", **task)
    test = evaluate(probabilities, true, told.top_k)
    metrics = Metrics(
        labels=names,
        test=test,
        validation=test,
        gate_value=gate_value(told.gate, test, names),
        parameters=136874,
        seconds=83.2,
        best_epoch=max(history - 1, 1),
        litert_difference=1e-7,
        quantization=Quantization(
            split=SplitName.VALIDATION, samples=9, float_accuracy=0.9, int8_accuracy=0.8, agreement=0.99
        ),
        history=epochs(history),
    )
    examples = [
        Example(
            pixels=random.integers(0, 256, size, np.uint8),
            map=random.random((8, 8)).astype(np.float32) * (position != 1),
            true=int(true[number]),
            predicted=int(probabilities[number].argmax()),
            true_probability=float(probabilities[number, true[number]]),
            predicted_probability=float(probabilities[number].max()),
            file=files[position % len(files)] if files else f"owl/{position:04d}.png",
        )
        for position, number in enumerate(most_wrong(probabilities, true))
    ]
    return Story(told, manifest(names, len(true)), metrics, lineage(told), examples)


def manifest(labels: list[str], samples: int) -> DatasetManifest:
    """Of a dataset whose splits are all alike."""
    info = SplitInfo(samples=samples, per_class=[samples // len(labels)] * len(labels))
    return DatasetManifest(
        key=KEY,
        labels=labels,
        picture=Picture(),
        normalization=Normalization(),
        decoder="pillow 13.0.0",
        splits=dict.fromkeys(SplitName, info),
        checksums={},
    )


def lineage(task: Any) -> Lineage:
    """Of that task."""
    return Lineage(
        job=task.job,
        job_uid=task.job_uid,
        attempt=1,
        dataset=task.dataset_name,
        dataset_key=KEY,
        image="registry.example/trainer@sha256:" + "0" * 64,
        code_version="0.1.0",
        seed=task.training.seed,
        workers=task.workers,
        threads=2,
        cpu="Some CPU <at> 3 GHz",
        python="3.11.7",
        tensorflow="2.21.0",
        keras="3.15.1",
        network=task.network.to_json_dict(),
        training=task.training.to_json_dict(),
        weights_digest="cd" * 32,
        started="2026-01-02T03:04:05Z",
        finished="2026-01-02T03:14:05Z",
    )
