"""The figures of a judgement: cases counted by hand, and properties that hold for all."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_workloads.contract.judgement import Gate
from lepton_workloads.train.judge.calibration import BINS
from lepton_workloads.train.judge.figures import Evaluation, evaluate, gate_value

LABELS = ["cat", "dog", "owl", "eel"]
Case = tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]


def by_hand() -> Evaluation:
    """Eight pictures: 3 cats (2 found), 4 dogs (2 found), an owl that is never seen; no eel, but one is 'seen'."""
    rows = [
        [0.7, 0.1, 0.1, 0.1],  # cat, hit
        [0.62, 0.18, 0.1, 0.1],  # cat, hit
        [0.3, 0.38, 0.22, 0.1],  # cat as dog
        [0.1, 0.9, 0.0, 0.0],  # dog, hit
        [0.2, 0.7, 0.1, 0.0],  # dog, hit
        [0.5, 0.3, 0.1, 0.1],  # dog as cat
        [0.2, 0.3, 0.0, 0.5],  # dog as eel
        [0.5, 0.2, 0.3, 0.0],  # owl as cat
    ]
    return evaluate(np.array(rows, np.float32), np.array([0, 0, 0, 1, 1, 1, 1, 2], np.int32), top_k=2)


def test_figures_are_those_counted_by_hand() -> None:
    found = by_hand()
    assert found.confusion_matrix == [[2, 1, 0, 0], [1, 2, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]]
    cat, dog, owl, eel = found.per_class
    assert (cat.precision, cat.recall, cat.f1) == (0.5, 2 / 3, 4 / 7)
    assert (dog.precision, dog.recall, dog.f1) == (2 / 3, 0.5, 4 / 7)
    assert (owl.precision, owl.recall, owl.f1) == (None, 0.0, 0.0)
    assert (eel.precision, eel.recall, eel.f1) == (0.0, None, 0.0)
    # The eel is no class of the split; the owl counts with 0.
    assert found.precision == pytest.approx((0.5 + 2 / 3 + 0) / 3)
    assert found.recall == pytest.approx((2 / 3 + 0.5 + 0) / 3)
    assert found.f1 == pytest.approx((4 / 7 + 4 / 7 + 0) / 3)
    assert (found.samples, found.accuracy) == (8, 0.5)
    # Whoever is wrong has the true class in the second place.
    assert (found.top_k, found.top_k_accuracy) == (2, 1.0)
    likelihoods = [0.7, 0.62, 0.3, 0.9, 0.7, 0.3, 0.3, 0.3]
    assert found.loss == pytest.approx(-np.log(likelihoods).mean(), rel=1e-6)


def test_what_is_undefined_is_left_out_of_the_json() -> None:
    _, _, owl, eel = by_hand().to_json_dict()["perClass"]
    assert owl == {"samples": 1, "predicted": 0, "recall": 0.0, "f1": 0.0}
    assert eel == {"samples": 0, "predicted": 1, "precision": 0.0, "f1": 0.0}


def test_calibration_is_that_counted_by_hand() -> None:
    found = by_hand()
    # Confidences in fifteenths: 0.7 twice 10.5, 0.62 is 9.3, 0.38 is 5.7, 0.9 is 13.5, 0.5 three times 7.5.
    filled = {number: part for number, part in enumerate(found.reliability) if part.samples}
    assert {number: part.samples for number, part in filled.items()} == {5: 1, 7: 3, 9: 1, 10: 2, 13: 1}
    assert filled[10].confidence == pytest.approx(0.7)
    assert (filled[10].accuracy, filled[7].accuracy) == (1.0, 0.0)
    error = (1 * 0.38 + 3 * 0.5 + 1 * (1 - 0.62) + 2 * (1 - 0.7) + 1 * (1 - 0.9)) / 8
    assert found.expected_calibration_error == pytest.approx(error)
    assert found.reliability[0].accuracy is None
    assert [part.up_to for part in found.reliability][-1] == 1.0


def test_a_network_that_is_as_sure_as_it_is_right_has_no_calibration_error() -> None:
    probabilities = np.tile(np.array([[0.75, 0.25]], np.float32), (4, 1))
    found = evaluate(probabilities, np.array([0, 0, 0, 1], np.int32))
    assert found.expected_calibration_error == 0.0
    assert found.top_k == 2  # as many as there are classes


def test_a_probability_of_zero_does_not_make_the_loss_infinite() -> None:
    found = evaluate(np.array([[1, 0]], np.float32), np.array([1], np.int32))
    assert found.loss == pytest.approx(-np.log(1e-7))


def test_the_loss_is_the_trainings_own_where_it_is_given() -> None:
    probabilities, labels = np.array([[0.6, 0.4]], np.float32), np.array([1], np.int32)
    assert evaluate(probabilities, labels, losses=np.array([0.25], np.float32)).loss == 0.25


@pytest.mark.parametrize(
    ("metric", "label", "expected"),
    [
        ("accuracy", None, 0.5),
        ("topKAccuracy", None, 1.0),
        ("precision", None, 7 / 18),
        ("recall", "dog", 0.5),
        ("precision", "dog", 2 / 3),
        ("f1", "cat", 4 / 7),
        # Never predicted: that is no unknown figure that might pass.
        ("precision", "owl", 0.0),
        # The split holds none: nobody knows.
        ("recall", "eel", None),
        ("precision", "eel", None),
        ("crossValidationAccuracy", None, None),
    ],
)
def test_the_gate_gets_the_figure_that_it_asks_for(
    metric: str, label: str | None, expected: float | None
) -> None:
    gate = Gate.model_validate({"metric": metric, "label": label, "atLeast": 0.5})
    found = gate_value(gate, by_hand(), LABELS)
    assert found == (None if expected is None else pytest.approx(expected))


def test_gates_of_loss_and_calibration_and_none_at_all() -> None:
    found = by_hand()
    assert gate_value(Gate(metric="loss", at_most=1), found, LABELS) == found.loss
    error = found.expected_calibration_error
    assert gate_value(Gate(metric="expectedCalibrationError", at_most=1), found, LABELS) == error
    assert gate_value(None, found, LABELS) is None


@st.composite
def cases(draw: st.DrawFn) -> Case:
    classes = draw(st.integers(2, 6))
    samples = draw(st.integers(1, 30))
    numbers = st.integers(0, 8)
    drawn = draw(
        st.lists(st.lists(numbers, min_size=classes, max_size=classes), min_size=samples, max_size=samples)
    )
    raw = np.array(drawn, np.float64)
    raw[raw.sum(axis=1) == 0] = 1
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=samples, max_size=samples))
    return (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32), np.array(labels, np.int32)


@given(cases())
def test_figures_agree_with_each_other(case: Case) -> None:
    probabilities, labels = case
    classes = probabilities.shape[1]
    found = evaluate(probabilities, labels, top_k=1)
    matrix = np.array(found.confusion_matrix)
    assert matrix.sum() == found.samples == len(labels)
    assert matrix.sum(axis=1).tolist() == np.bincount(labels, minlength=classes).tolist()
    assert found.accuracy == pytest.approx(matrix.trace() / len(labels)) == found.top_k_accuracy
    # Recall weighted by the pictures of each class is the accuracy.
    weighted = sum(figures.samples * (figures.recall or 0) for figures in found.per_class)
    assert weighted / len(labels) == pytest.approx(found.accuracy)
    for figures in found.per_class:
        assert (figures.precision is None) == (figures.predicted == 0)
        assert (figures.recall is None) == (figures.samples == 0)
        if figures.precision and figures.recall:
            mean = 2 * figures.precision * figures.recall / (figures.precision + figures.recall)
            assert figures.f1 == pytest.approx(mean)
    assert evaluate(probabilities, labels, top_k=classes).top_k_accuracy == 1.0


@given(cases())
def test_the_reliability_table_holds_every_picture_once(case: Case) -> None:
    probabilities, labels = case
    found = evaluate(probabilities, labels)
    assert len(found.reliability) == BINS
    assert sum(part.samples for part in found.reliability) == len(labels)
    for part in found.reliability:
        if part.confidence is not None:
            assert part.above < part.confidence + 1e-6
            assert part.confidence <= part.up_to + 1e-6
    hits = sum(part.samples * (part.accuracy or 0) for part in found.reliability)
    assert hits == pytest.approx(found.accuracy * len(labels))
    assert 0 <= found.expected_calibration_error <= 1


@given(cases())
def test_the_order_of_the_pictures_changes_nothing(case: Case) -> None:
    probabilities, labels = case
    order = np.argsort(probabilities[:, 0], kind="stable")[::-1]
    first, second = evaluate(probabilities, labels), evaluate(probabilities[order], labels[order])
    assert first.confusion_matrix == second.confusion_matrix
    assert first.loss == pytest.approx(second.loss)
    assert first.expected_calibration_error == pytest.approx(second.expected_calibration_error)
