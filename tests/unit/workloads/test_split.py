"""The draw of splits: repeatable, stratified, never without something to train."""

import itertools
from collections import Counter

import pytest

from lepton_workloads.contract.data import Split, SplitName
from lepton_workloads.split import assign_splits, split_counts


def samples(classes: int, each: int) -> tuple[list[str], list[int]]:
    pairs = [(f"{label}/{index}.png", label) for label in range(classes) for index in range(each)]
    return [name for name, _ in pairs], [label for _, label in pairs]


def test_equal_input_gives_equal_splits_in_any_order() -> None:
    names, labels = samples(4, 25)
    drawn = dict(zip(names, assign_splits(names, labels, Split()), strict=True))
    backwards = assign_splits(names[::-1], labels[::-1], Split())
    assert dict(zip(names[::-1], backwards, strict=True)) == drawn


def test_another_seed_draws_other_files() -> None:
    names, labels = samples(2, 50)
    assert assign_splits(names, labels, Split(seed=1)) != assign_splits(names, labels, Split(seed=2))


def test_shares_hold_in_every_class() -> None:
    names, labels = samples(3, 100)
    splits = assign_splits(names, labels, Split(train=0.7, validation=0.2, test=0.1))
    for label in range(3):
        counts = Counter(split for split, owner in zip(splits, labels, strict=True) if owner == label)
        assert counts == {SplitName.TRAIN: 70, SplitName.VALIDATION: 20, SplitName.TEST: 10}


def test_a_new_class_moves_no_other_sample() -> None:
    names, labels = samples(2, 30)
    more_names, more_labels = samples(3, 30)
    assert assign_splits(more_names, more_labels, Split())[:60] == assign_splits(names, labels, Split())


@pytest.mark.parametrize("share", [(0.8, 0.1, 0.1), (0.2, 0.4, 0.4), (0.01, 0.0, 0.99)])
def test_small_classes_always_train(share: tuple[float, float, float]) -> None:
    split = Split(train=share[0], validation=share[1], test=share[2])
    for count in range(1, 60):
        validation, test = split_counts(count, split)
        assert validation >= 0
        assert test >= 0
        assert count - validation - test >= 1
        wanted = sum(part > 0 for part in share[1:])
        if count > wanted:
            assert (validation > 0, test > 0) == (share[1] > 0, share[2] > 0)


def test_a_draw_never_changes() -> None:
    """Content addresses of datasets and the held-out files of examples depend on it."""
    names, labels = samples(1, 12)
    held_out = [
        name
        for name, split in zip(names, assign_splits(names, labels, Split()), strict=True)
        if split != SplitName.TRAIN
    ]
    assert held_out == PINNED


PINNED = ["0/0.png", "0/4.png"]


def test_names_and_labels_must_fit() -> None:
    with pytest.raises(ValueError, match="2 names for 3 labels"):
        assign_splits(["a", "b"], list(itertools.repeat(0, 3)), Split())
