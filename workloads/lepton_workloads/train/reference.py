"""`reference.json`: what the data and the answers look like when all is well."""

import numpy as np

from lepton_workloads.contract.artifact import Reference
from lepton_workloads.contract.data import SplitName
from lepton_workloads.drift import PictureStatistics, picture_statistics, quantile_histogram
from lepton_workloads.train.data import Dataset
from lepton_workloads.train.judge.figures import Probabilities
from lepton_workloads.train.predict import BATCH


def reference_of(dataset: Dataset, name: SplitName, probabilities: Probabilities) -> Reference:
    """From the pictures of a split and the network's answers to them (N, classes); N > 0."""
    images = dataset.splits[name].images
    parts = [picture_statistics(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    pictures = PictureStatistics(*(np.concatenate(values) for values in zip(*parts, strict=True)))
    predicted = np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1])
    return Reference(
        split=name,
        samples=len(images),
        channel_means=[quantile_histogram(values) for values in pictures.channel_means.T],
        brightness=quantile_histogram(pictures.brightness),
        contrast=quantile_histogram(pictures.contrast),
        predicted=(predicted / len(images)).tolist(),
        confidence=quantile_histogram(probabilities.max(axis=1).astype(np.float64)),
    )
