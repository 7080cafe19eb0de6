"""How good the network is at each class, and what it takes for what."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lepton_workloads.train.judge.figures import ClassFigures, Evaluation
from lepton_workloads.train.report_page.markup import Markup, element, join, table
from lepton_workloads.train.report_page.wording import count, label, percent, plural, short

MAX_ROWS = 100
MAX_MATRIX = 20
MAX_PAIRS = 10
MAX_COLUMN_LABEL = 14
STRONGEST = 45
"""Share of colour in the darkest cell, in percent: text must stay readable on it."""
Counts = npt.NDArray[np.int64]


def class_table(evaluation: Evaluation, labels: Sequence[str]) -> Markup:
    """Precision, recall and F1 of each class; with many classes those with the lowest F1."""
    numbers = list(range(len(labels)))
    told = None
    if len(labels) > MAX_ROWS:
        numbers = sorted(numbers, key=lambda number: _badness(evaluation.per_class[number]))[:MAX_ROWS]
        told = f"The {MAX_ROWS} classes with the lowest F1 of {count(len(labels))}; all are in metrics.json."
    rows = [_class_row(labels[number], evaluation.per_class[number]) for number in numbers]
    head = ("Class", "Pictures", "Precision", "Recall", "F1")
    return join([told and element("p", told), table("Figures of each class", head, rows, class_="numbers")])


def confusions(evaluation: Evaluation, labels: Sequence[str]) -> Markup:
    """The most frequent mistakes as sentences, and the matrix; with many classes that of the most confused."""
    matrix = np.array(evaluation.confusion_matrix, np.int64)
    numbers = _most_confused(matrix)
    told = "A row for each true class, a column for what its pictures were taken for."
    if len(numbers) < len(labels):
        told += (
            f" These are the {len(numbers)} most confused classes of {count(len(labels))}; "
            "all are in metrics.json."
        )
    return join([_mistakes(matrix, labels), element("p", told), _matrix(matrix, numbers, labels)])


def _class_row(name: str, figures: ClassFigures) -> tuple[object, ...]:
    return (
        label(name),
        count(figures.samples),
        *(_barred(share) for share in (figures.precision, figures.recall, figures.f1)),
    )


def _barred(share: float | None) -> Markup:
    level = None if share is None else f"--v:{100 * share:.1f}"
    return element("td", percent(share), class_="barred", style=level)


def _badness(figures: ClassFigures) -> float:
    """Low is bad; a class that the split doesn't hold comes last."""
    return 2.0 if not figures.samples or figures.f1 is None else figures.f1


def _most_confused(matrix: Counts) -> list[int]:
    """All classes of a small matrix, else those with the most mistakes in row and column, by the labels' order."""
    if len(matrix) <= MAX_MATRIX:
        return list(range(len(matrix)))
    wrong = matrix - np.diag(matrix.diagonal())
    mistakes = wrong.sum(axis=0) + wrong.sum(axis=1)
    return sorted(np.argsort(-mistakes, kind="stable")[:MAX_MATRIX].tolist())


def _mistakes(matrix: Counts, labels: Sequence[str]) -> Markup:
    wrong = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_PAIRS]
    pairs = [(int(cell) // len(matrix), int(cell) % len(matrix)) for cell in order]
    samples = matrix.sum(axis=1)
    items = [
        element(
            "li",
            label(labels[true]),
            " taken for ",
            label(labels[found]),
            f": {plural(int(wrong[true, found]), 'time', 'times')}"
            f" ({percent(wrong[true, found] / samples[true])} of its pictures)",
        )
        for true, found in pairs
        if wrong[true, found]
    ]
    if not items:
        return element("p", "No picture of the test split was taken for another class.")
    return join([element("p", "The most frequent mistakes:"), element("ul", items)])


def _matrix(matrix: Counts, numbers: list[int], labels: Sequence[str]) -> Markup:
    samples = matrix.sum(axis=1)
    head: list[object] = [element("th", "true ↓ taken for →", scope="col", class_="corner")]
    head += [
        element("bdi", short(labels[number], MAX_COLUMN_LABEL), title=labels[number][:253])
        for number in numbers
    ]
    rows = [
        [label(labels[true]), *(_square(matrix, true, found, int(samples[true])) for found in numbers)]
        for true in numbers
    ]
    return table("Confusion matrix", head, rows, class_="matrix")


def _square(matrix: Counts, true: int, found: int, samples: int) -> Markup:
    amount = int(matrix[true, found])
    kind = "hit" if true == found else "miss"
    level = f"--v:{STRONGEST * amount / samples:.1f}" if amount else None
    return element("td", count(amount) if amount else "·", class_=kind if amount else "none", style=level)
