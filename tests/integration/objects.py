"""Lepton objects for the tests."""

from typing import Any

from tests.integration.kube import Object

API_VERSION = "lepton.ai/v1alpha1"


def manifest(kind: str, name: str, spec: Object) -> Object:
    """A Lepton object."""
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def dataset(name: str = "digits", **spec: Any) -> Object:
    """A LeptonDataset."""
    return manifest("LeptonDataset", name, {"source": {"builtin": "digits"}} | spec)


def training_job(name: str = "cnn", dataset: str = "digits", **spec: Any) -> Object:
    """A LeptonTrainingJob of that dataset."""
    return manifest("LeptonTrainingJob", name, {"dataset": {"name": dataset}} | spec)


def model(name: str = "digits", job: str = "cnn", **spec: Any) -> Object:
    """A LeptonModel of a training job, two replicas."""
    source = {"trainingJob": {"name": job}}
    return manifest("LeptonModel", name, {"source": source, "replicas": 2} | spec)


def served_model(name: str = "digits", **spec: Any) -> Object:
    """A LeptonModel that needs no training job, but the claim `models`."""
    source = {"uri": "pvc://models/digits", "sha256": "0" * 64}
    return manifest("LeptonModel", name, {"source": source} | spec)


def claim(name: str = "models") -> Object:
    """A claim of the default class."""
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def chain() -> tuple[Object, ...]:
    """One object of each kind, each needing the one before."""
    return dataset(), training_job(), model()
