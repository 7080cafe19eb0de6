"""Who is in which split: a pure function of names, classes and the seed."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence

from lepton_workloads.contract.data import Split, SplitName


def assign_splits(names: Sequence[str], labels: Sequence[int], split: Split) -> list[SplitName]:
    """The split of each sample, drawn per class (stratified).

    The draw orders a class by sha256 of seed and name: it depends neither on the order of the input nor
    on a random generator that may change with a library, and other classes don't move it. Each class
    gives at least one sample to train, and one to each wanted split when it has enough for all.

    Args:
        names: unique names of the samples, length N.
        labels: class of each sample, length N.

    Raises:
        ValueError: lengths differ.
    """
    classes: dict[int, list[int]] = defaultdict(list)
    for position, label in enumerate(labels):
        classes[label].append(position)
    if len(names) != len(labels):
        raise ValueError(f"{len(names)} names for {len(labels)} labels")
    result = [SplitName.TRAIN] * len(names)
    for positions in classes.values():
        positions.sort(key=lambda position: _draw(split.seed, names[position]))
        validation, test = split_counts(len(positions), split)
        for position in positions[:test]:
            result[position] = SplitName.TEST
        for position in positions[test : test + validation]:
            result[position] = SplitName.VALIDATION
    return result


def split_counts(samples: int, split: Split) -> tuple[int, int]:
    """Samples of validation and of test in a class of `samples`; the rest, at least one, is for train."""
    wanted = [split.validation > 0, split.test > 0]
    least = [int(want and samples > sum(wanted)) for want in wanted]
    validation = max(least[0], math.floor(samples * split.validation + 0.5))
    test = max(least[1], math.floor(samples * split.test + 0.5))
    while validation + test > max(samples - 1, 0):
        if validation > test:
            validation -= 1
        else:
            test -= 1
    return validation, test


def _draw(seed: int, name: str) -> tuple[bytes, str]:
    text = f"{seed}/{name}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).digest(), name
