"""`report.html` as text: what it says, that it trusts nobody, and that it stays small."""

import itertools
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lepton_operator.api.training_job import TrainingJobSpec
from lepton_workloads.contract.data import SplitName
from lepton_workloads.train.report_page.again import manifest_text
from lepton_workloads.train.report_page.curves import ticks
from lepton_workloads.train.report_page.examples import MAX_EXAMPLES, most_wrong, source_files
from lepton_workloads.train.report_page.markup import Markup, element
from lepton_workloads.train.report_page.page import report_html
from lepton_workloads.train.report_page.wording import duration, verdict

from .conftest import Pod
from .story import HOSTILE, KEY, lineage, story
from .training import task_of

VOID = {"br", "circle", "img", "line", "link", "meta", "path", "polyline", "rect"}
KNOWN = """
a b bdi body br caption circle code dd details div dl dt figcaption figure footer h1 h2 h3 head header html img li line
link main meta nav ol p polyline pre rect section span style summary svg table tbody td text th thead title tr ul
"""


class Page(HTMLParser):
    """Elements and text; an element that is not closed in its turn is an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def test_hostile_labels_and_file_names_are_text() -> None:
    told = story(HOSTILE, files=HOSTILE, gate={"metric": "recall", "label": HOSTILE[0], "atLeast": 0.9})
    html = report_html(told)
    page = Page(html)
    assert {tag for tag, _ in page.elements} <= set(KNOWN.split())
    assert not [key for _, found in page.elements for key in found if key.startswith("on")]
    assert HOSTILE[0] in page.text
    assert "<h1>not a heading</h1>" in page.text
    assert [tag for tag, _ in page.elements].count("h1") == 1
    assert "\x00" not in html
    assert "\x1b" not in html


def test_nothing_leads_out_of_the_page() -> None:
    page = Page(report_html(story(HOSTILE, files=HOSTILE)))
    ids = {found["id"] for _, found in page.elements if "id" in found}
    for tag, found in page.elements:
        for key in ("href", "src"):
            address = found.get(key, "data:,")
            assert address.startswith("data:") or (tag == "a" and address[1:] in ids), address
        assert "url(" not in found.get("style", "").replace("url(data:image/png;base64,", "")
    [policy] = [found["content"] for _, found in page.elements if found.get("http-equiv")]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_the_page_is_there_for_those_who_listen_to_it() -> None:
    page = Page(report_html(story()))
    headings = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(headings))
    for tag, found in page.elements:
        if tag == "img":
            assert found["alt"]
        if tag == "svg":
            assert found["role"] == "img"
            assert found["aria-label"]
        if tag == "th":
            assert found["scope"] in ("col", "row")
    assert [tag for tag, _ in page.elements].count("caption") == [tag for tag, _ in page.elements].count(
        "table"
    )


@pytest.mark.parametrize(
    ("gate", "kind", "words"),
    [
        (None, "open", "No gate was set"),
        ({"metric": "accuracy", "atLeast": 0.01}, "good", "asks for accuracy at least 0.01, and it is 0."),
        ({"metric": "loss", "atMost": 1e-3}, "bad", "asks for loss at most 0.001, but it is"),
        ({"metric": "crossValidationAccuracy", "atLeast": 0.9}, "open", "is decided by the cross-validation"),
        ({"metric": "recall", "label": "owl", "atLeast": 0.99}, "bad", "recall of owl at least 0.99, but"),
    ],
)
def test_the_verdict_is_said_in_words(gate: dict[str, Any] | None, kind: str, words: str) -> None:
    told = story(gate=gate)
    assert verdict(told.task.gate, told.metrics)[0] == kind
    page = Page(report_html(told))
    assert words in page.text
    assert any(found.get("class") == f"verdict {kind}" for _, found in page.elements)


def test_a_gate_for_a_class_without_pictures_is_neither_passed_nor_hidden() -> None:
    told = story(gate={"metric": "recall", "label": "owl", "atLeast": 0.5})
    unknown = told.metrics.model_copy(update={"gate_value": None})
    assert "holds no picture of that class" in verdict(told.task.gate, unknown)[2]


def test_a_cross_validation_is_spoken_of_only_where_there_is_one() -> None:
    assert "cross-validation" not in report_html(story())
    assert "A cross-validation with 7 folds" in report_html(story(crossValidation={"folds": 7}))


def test_a_failed_8_bit_version_is_explained() -> None:
    told = story()
    failed = told.metrics.quantization.model_copy(update={"int8_accuracy": None, "error": "no such <op>"})
    metrics = told.metrics.model_copy(update={"quantization": failed})
    page = Page(report_html(type(told)(told.task, told.manifest, metrics, told.lineage, told.examples)))
    assert "There is no 8-bit version: no such <op>" in page.text


def test_many_classes_epochs_and_large_pictures_make_no_large_page() -> None:
    labels = [f"class {number} {'x' * 200}" for number in range(200)]
    told = story(labels, history=50_000, size=(1024, 768, 3))
    html = report_html(told)
    assert len(html) < 6_000_000
    page = Page(html)
    assert [tag for tag, _ in page.elements].count("img") == 2 * MAX_EXAMPLES
    assert "the 20 most confused classes of 200" in page.text
    assert "The 100 classes with the lowest F1 of 200" in page.text
    longest = max(len(found["points"]) for tag, found in page.elements if tag == "polyline")
    assert longest < 10_000


def test_without_mistakes_the_least_sure_pictures_are_shown() -> None:
    page = Page(report_html(story(right=True)))
    assert "No picture of the test split is wrong" in page.text
    assert "was taken for another class" in page.text


@pytest.mark.parametrize(("classes", "history"), [(2, 1), (1, 2), (20, 3), (21, 400)])
def test_small_and_odd_trainings_have_a_page(classes: int, history: int) -> None:
    told = story([f"c{number}" for number in range(classes)], history, size=(3, 40, 1))
    assert "epoch" in Page(report_html(told)).text


def test_the_most_wrong_come_first() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.99, 0.01]], np.float32)
    labels = np.array([1, 0, 0, 0], np.int32)
    assert most_wrong(probabilities, labels) == [0, 1, 2]
    assert most_wrong(probabilities, probabilities.argmax(axis=1).astype(np.int32))[0] == 2


def test_source_files_are_found_by_the_number_of_the_sample(pod: Pod) -> None:
    names = ['"a/1.png"', '"b/2.png"', "7", '"d/4.png"']
    (pod.root / "test.files").write_text("\n".join(names) + "\n")
    assert source_files(pod.root, SplitName.TEST, [3, 0, 2]) == {0: "a/1.png", 3: "d/4.png"}
    assert source_files(pod.root, SplitName.TRAIN, [0]) == {}


TASKS: list[dict[str, Any]] = [
    {},
    {"training": {"epochs": 3, "learningRate": 1e-5, "augment": {"flip": "none", "shift": 0.1}}},
    {"training": {"earlyStopping": {"patience": 2}, "optimizerParameters": {"beta1": 0.8}}},
    {"gate": {"metric": "recall", "label": "yes", "atLeast": 0.9}, "topK": 3},
    {"gate": {"metric": "crossValidationAccuracy", "atLeast": 0.5}, "crossValidation": {"folds": 3}},
    {"warmStart": {"digest": "0" * 64, "frozenLayers": ["convolution_0"]}, "workers": 2, "peers": ["a", "b"]},
    {"network": {"convolutions": [4], "dense": [], "poolSizes": [1]}, "checkpoint": {"everySteps": 5}},
]


@pytest.mark.parametrize("fields", TASKS)
def test_the_manifest_asks_for_the_same_training(fields: dict[str, Any]) -> None:
    task = task_of(KEY, **{"job": "vision/" + "n" * 40, **fields})
    found = yaml.safe_load(manifest_text(task, lineage(task)))
    assert found["metadata"] == {"name": "n" * 34 + "-again", "namespace": "vision"}
    spec = TrainingJobSpec.model_validate(found["spec"])
    assert spec.network.cnn == task.network
    assert (spec.training, spec.checkpoint, spec.workers) == (task.training, task.checkpoint, task.workers)
    assert (spec.evaluation.gate, spec.evaluation.top_k) == (task.gate, task.top_k)
    assert spec.evaluation.cross_validation == task.cross_validation
    assert spec.resources.requests is not None
    assert spec.resources.requests["cpu"] == "2"
    if task.warm_start:
        assert spec.warm_start is not None
        assert spec.warm_start.version == task.warm_start.digest
        assert spec.warm_start.frozen_layers == task.warm_start.frozen_layers


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_every_label_survives_the_manifest(label: str) -> None:
    task = task_of(KEY, gate={"metric": "f1", "label": label, "atLeast": 0.5})
    found = yaml.safe_load(manifest_text(task, lineage(task)))
    assert found["spec"]["evaluation"]["gate"]["label"] == label


@given(st.text(max_size=40))
def test_text_and_attributes_are_escaped_whatever_they_are(value: str) -> None:
    page = Page(element("p", value, title=value, class_="x"))
    assert [tag for tag, _ in page.elements] == ["p"]
    assert set(page.elements[0][1]) == {"title", "class"}
    assert element("p", Markup("<b>ready</b>")) == "<p><b>ready</b></p>"


@given(st.floats(-1e9, 1e9), st.floats(0, 1e9))
def test_ticks_cover_the_values_and_are_few(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 2 <= len(found) <= 7
    assert found == sorted(set(found))
    tolerance = 1e-6 * max(abs(low), span)
    assert found[0] <= low + tolerance
    assert found[-1] >= low + span - tolerance


def test_times_are_said_as_people_say_them() -> None:
    said = [duration(seconds) for seconds in (1.234, 42.2, 83.2, 7512)]
    assert said == ["1.2 s", "42 s", "1 min 23 s", "2 h 5 min"]


def test_the_axis_of_epochs_names_the_ends_and_what_lies_between() -> None:
    page = report_html(story(history=120))
    axis = page[page.index("Loss by epoch") : page.index("Accuracy by epoch")]
    shown = re.findall(r'text-anchor="middle">(\d+)<', axis)
    assert shown == ["1", "50", "100", "120"]
