"""A wrong manifest is refused by `kubectl apply`, with a sentence that says what to write."""

from typing import Any

import pytest

from tests.e2e.cluster import Namespace, dataset, manifest, model, training_job

PVC = {"claimName": "photos"}
SHA = "0" * 64

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "dataset without source": (dataset(source={}), "set exactly one of source.builtin and source.pvc"),
    "dataset with two sources": (dataset(source={"builtin": "digits", "pvc": PVC}), "exactly one"),
    "unknown built-in data": (dataset(source={"builtin": "mnist"}), 'supported values: "digits"'),
    "path that leaves the claim": (dataset(source={"pvc": PVC | {"path": "../other"}}), "must not hold '..'"),
    "split above one": (
        dataset(split={"train": 0.8, "validation": 0.3, "test": 0.1}),
        "must add up to 1, for example 0.8, 0.1 and 0.1",
    ),
    "unknown field": (dataset(colour="blue"), 'unknown field "colour"'),
    "dataset with a dotted name": (dataset("a.b"), "metadata.name must start with a letter"),
    "name that is too long": (dataset("a" * 41), "at most 40 characters"),
    "quantity that is none": (
        dataset(resources={"requests": {"cpu": "many"}}),
        "write for example 500m, 2 or 2Gi",
    ),
    "training without dataset": (
        manifest("LeptonTrainingJob", "t", {"workers": 1}),
        'missing required field "dataset"',
    ),
    "batch that can't be shared": (
        training_job(workers=3),
        "training.batchSize must be a multiple of workers",
    ),
    "unknown optimizer": (training_job(training={"optimizer": "magic"}), 'supported values: "adam"'),
    "no convolution": (training_job(network={"convolutions": []}), "spec.network.convolutions"),
    "zero epochs": (training_job(training={"epochs": 0}), "greater than or equal to 1"),
    "model without source": (
        manifest("LeptonModel", "m", {"source": {}}),
        "set exactly one of source.trainingJob",
    ),
    "address without checksum": (
        model(source={"uri": "https://example.com/m.tar.gz"}),
        "needs sha256: write the sha256 of the archive",
    ),
    "address of another kind": (model(source={"uri": "ftp://example.com/m"}), "uri must be pvc://CLAIM/PATH"),
    "checksum that is none": (
        model(source={"uri": "https://example.com/m.tar.gz", "sha256": "abc"}),
        "64 lower-case hexadecimal digits",
    ),
    "checksum of a training job": (
        model(source={"trainingJob": {"name": "cnn"}, "sha256": SHA}),
        "sha256 goes with uri",
    ),
    "negative replicas": (model(replicas=-1), "spec.replicas"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_manifest_is_refused_with_what_to_write(shared: Namespace, case: str) -> None:
    obj, sentence = REFUSED[case]
    assert sentence in shared.refused(obj)


def test_a_training_job_is_fixed_once_created(shared: Namespace) -> None:
    shared.apply(training_job())
    sentence = shared.refused(training_job(training={"epochs": 2, "batchSize": 64}))
    assert "create a job with a new name" in sentence
    assert "configured" in shared.apply(training_job(backoffLimit=5))
    shared.run("delete", "ltj", "cnn")
