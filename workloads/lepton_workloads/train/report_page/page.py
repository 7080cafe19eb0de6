"""The whole page, section by section."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lepton_workloads.contract.artifact import Lineage
from lepton_workloads.contract.data import DatasetManifest
from lepton_workloads.contract.tasks import TrainTask
from lepton_workloads.train.judge.figures import Evaluation
from lepton_workloads.train.metrics import Metrics, Quantization
from lepton_workloads.train.report_page.again import lineage_tables, run_again
from lepton_workloads.train.report_page.calibration import calibration
from lepton_workloads.train.report_page.classes import class_table, confusions
from lepton_workloads.train.report_page.curves import learning_curves
from lepton_workloads.train.report_page.examples import Example, examples_section
from lepton_workloads.train.report_page.markup import Child, Markup, element, join, table
from lepton_workloads.train.report_page.wording import count, duration, number, percent, plural, verdict

STYLE = Path(__file__).with_name("style.css")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""The page needs nothing from outside, and no script runs in it, whatever a label holds."""


@dataclass(frozen=True)
class Story:
    """All that the page tells."""

    task: TrainTask
    manifest: DatasetManifest
    metrics: Metrics
    lineage: Lineage
    examples: Sequence[Example]


def report_html(story: Story) -> str:
    """The text of `report.html`."""
    metrics, labels = story.metrics, story.metrics.labels
    wrong = metrics.test.samples - sum(row[index] for index, row in enumerate(metrics.test.confusion_matrix))
    sections = [
        ("summary", "Summary", _summary(story)),
        ("curves", "Learning curves", learning_curves(metrics.history, metrics.best_epoch)),
        ("classes", "Classes", class_table(metrics.test, labels)),
        ("confusions", "Confusions", confusions(metrics.test, labels)),
        ("calibration", "Calibration", calibration(metrics.test)),
        ("examples", "Most wrong pictures", examples_section(story.examples, labels, wrong)),
        ("lineage", "Lineage", lineage_tables(story.lineage, story.manifest)),
        ("again", "Make it again", run_again(story.task, story.lineage)),
    ]
    title = f"{story.task.job} · training report"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", Markup(STYLE.read_text(encoding="utf-8"))),
    )
    links = (element("li", element("a", name, href=f"#{key}")) for key, name, _ in sections)
    body = element(
        "body",
        element("a", "To the report", href="#summary", class_="skip"),
        _header(story),
        element("nav", element("ul", links), aria_label="Sections"),
        element("main", (_section(*section) for section in sections)),
        element("footer", element("p", f"Written by Lepton {story.lineage.code_version}.")),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _header(story: Story) -> Markup:
    namespace, _, name = story.task.job.partition("/")
    facts = (
        f"Namespace {namespace} · dataset {story.lineage.dataset} · finished {story.lineage.finished} · "
        f"weights {story.lineage.weights_digest[:12]}"
    )
    return element(
        "header",
        element("p", "Training report", class_="soft"),
        element("h1", name),
        element("p", facts, class_="soft"),
    )


def _section(key: str, title: str, content: Child) -> Markup:
    return element(
        "section", element("h2", title, id=f"{key}-title"), content, id=key, aria_labelledby=f"{key}-title"
    )


def _summary(story: Story) -> Markup:
    metrics = story.metrics
    kind, headline, sentence = verdict(story.task.gate, metrics)
    mark = {"good": "✓", "bad": "✗", "open": "○"}[kind]
    banner = element(
        "div",
        element("span", mark, class_="sign", aria_hidden="true"),
        element("div", element("h3", headline), element("p", sentence)),
        class_=f"verdict {kind}",
    )
    test = metrics.test
    figures: list[tuple[str, str]] = [
        ("Accuracy", percent(test.accuracy)),
        ("Loss", number(test.loss)),
        ("F1, mean of the classes", percent(test.f1)),
        (f"Among the first {test.top_k}", percent(test.top_k_accuracy)),
        ("Calibration error", percent(test.expected_calibration_error)),
        ("8-bit accuracy", percent(metrics.quantization.int8_accuracy)),
    ]
    cards = (element("div", element("dt", name), element("dd", value)) for name, value in figures)
    told = [
        f"Judged on {plural(test.samples, 'picture', 'pictures')} of the test split, never seen in training.",
        _training(metrics),
        _quantization(metrics.quantization),
        _folds(story.task),
    ]
    return join(
        [
            banner,
            element("dl", cards, class_="figures"),
            (element("p", sentence) for sentence in told if sentence),
            _splits(metrics),
        ]
    )


def _training(metrics: Metrics) -> str:
    epochs = plural(metrics.history[-1].epoch, "epoch", "epochs")
    how = f"{count(metrics.parameters)} parameters, trained for {epochs} in {duration(metrics.seconds)}"
    if metrics.stopped_early:
        how += ", then stopped early"
    if metrics.best_epoch is not None:
        how += f"; the weights are those of epoch {metrics.best_epoch}"
    return f"{how}."


def _quantization(found: Quantization) -> str:
    judged = f"{plural(found.samples, 'picture', 'pictures')} of the {found.split} split"
    if found.int8_accuracy is None:
        return f"There is no 8-bit version: {found.error}"
    return (
        f"On {judged} the 8-bit version hits {percent(found.int8_accuracy)}, the 32-bit one "
        f"{percent(found.float_accuracy)}; both say the same of {percent(found.agreement)}."
    )


def _folds(task: TrainTask) -> str | None:
    if task.cross_validation is None:
        return None
    return (
        f"A cross-validation with {task.cross_validation.folds} folds runs after this page was written; its figures "
        "stand in the status of the LeptonTrainingJob, in status.evaluation."
    )


def _splits(metrics: Metrics) -> Markup:
    def row(name: str, found: Evaluation) -> tuple[str, ...]:
        shares = (found.accuracy, found.precision, found.recall, found.f1, found.top_k_accuracy)
        return name, count(found.samples), number(found.loss), *(percent(share) for share in shares)

    head = ("Split", "Pictures", "Loss", "Accuracy", "Precision", "Recall", "F1", f"Top {metrics.test.top_k}")
    rows = [row("test", metrics.test)]
    if metrics.validation:
        rows.append(row("validation", metrics.validation))
    return table("Figures of the splits", head, rows, class_="numbers")
