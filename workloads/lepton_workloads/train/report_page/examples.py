"""The pictures that the network is most wrong about, with what spoke for its answer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lepton_workloads.contract.data import SplitName
from lepton_workloads.train.judge.figures import Labels, Probabilities
from lepton_workloads.train.report_page.markup import Markup, element, join
from lepton_workloads.train.report_page.pictures import map_uri, picture_uri
from lepton_workloads.train.report_page.wording import MAX_FILE, label, percent, plural, short

MAX_EXAMPLES = 24
LEAST_SURE = 6
"""Shown instead where nothing is wrong."""
MAX_LINE = 64 * 1024


@dataclass(frozen=True)
class Example:
    """One picture of the test split."""

    pixels: npt.NDArray[np.uint8]
    """(H, W, channels)"""
    map: npt.NDArray[np.float32]
    """(H', W'), what spoke for the predicted class."""
    true: int
    predicted: int
    true_probability: float
    predicted_probability: float
    file: str | None
    """Its source file."""


def most_wrong(probabilities: Probabilities, labels: Labels) -> list[int]:
    """Wrong pictures, those with the least probability of the true class first; without any, the least sure hits."""
    predicted = probabilities.argmax(axis=1)
    true = probabilities[np.arange(len(labels)), labels]
    order = np.lexsort((true, predicted == labels))
    wrong = int((predicted != labels).sum())
    return [int(number) for number in order[: min(wrong, MAX_EXAMPLES) or LEAST_SURE]]


def source_files(folder: Path, split: SplitName, wanted: Sequence[int]) -> dict[int, str]:
    """Source files of some samples of a prepared dataset; those that it doesn't tell are left out."""
    found: dict[int, str] = {}
    missing = set(wanted)
    try:
        with (folder / f"{split}.files").open("rb") as lines:
            for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE), b"")):
                if not missing:
                    break
                if number in missing:
                    missing.discard(number)
                    name = json.loads(line)
                    if isinstance(name, str):
                        found[number] = name
    except (FileNotFoundError, ValueError):
        return found
    return found


def examples_section(examples: Sequence[Example], labels: Sequence[str], wrong: int) -> Markup:
    """A card for each example."""
    if wrong:
        more = "" if wrong <= len(examples) else f" These are the {len(examples)} it is most wrong about."
        told = f"{plural(wrong, 'picture', 'pictures')} of the test split {'is' if wrong == 1 else 'are'} wrong.{more}"
    else:
        told = "No picture of the test split is wrong. These are the ones it is least sure about."
    how = "Warm colours show what spoke for the answer (Grad-CAM at the last convolution)."
    cards = element("ul", (element("li", _card(example, labels)) for example in examples), class_="examples")
    return join([element("p", f"{told} {how}"), cards])


def _card(example: Example, labels: Sequence[str]) -> Markup:
    true, predicted = labels[example.true], labels[example.predicted]
    picture = picture_uri(example.pixels)
    name = short(true)
    answer = short(predicted)
    nothing = not example.map.any()
    shown = "nothing speaks for it" if nothing else "warm places speak for it"
    images = (
        element("img", src=picture, alt=f"Picture of {name}", class_="pixels"),
        element(
            "span",
            element("img", src=map_uri(example.map), alt=f"The same with the map for {answer}: {shown}"),
            class_="pixels",
            style=f"background-image:url({picture})",
        ),
    )
    if example.true == example.predicted:
        told = [element("b", label(true)), f" {percent(example.true_probability)}"]
    else:
        told = [
            element("b", label(true)),
            f" {percent(example.true_probability)}, taken for ",
            element("b", label(predicted)),
            f" {percent(example.predicted_probability)}",
        ]
    silent = None
    if nothing:
        silent = f"No place speaks for {answer}: it won because more speaks against the others."
    lines = (
        element("span", told),
        silent and element("span", silent, class_="note"),
        example.file and element("span", label(example.file, MAX_FILE), class_="file"),
    )
    caption = element("figcaption", lines)
    return element("figure", element("div", images, class_="pair"), caption, class_="card")
