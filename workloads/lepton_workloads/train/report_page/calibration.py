"""The reliability diagram: how often the network is right when it is so sure."""

from lepton_workloads.train.judge.calibration import ReliabilityBin
from lepton_workloads.train.judge.figures import Evaluation
from lepton_workloads.train.report_page.markup import Markup, element, join, table
from lepton_workloads.train.report_page.wording import count, percent

SIDE, EDGE, END = 300, 40, 10
"""Of the drawing; of the axis on the left and below; of the margin on the right and above."""


def calibration(evaluation: Evaluation) -> Markup:
    """Sentence, diagram and table."""
    filled = [part for part in evaluation.reliability if part.samples]
    error = percent(evaluation.expected_calibration_error)
    told = (
        f"Confidence and accuracy are {error} apart on average (expected calibration error, "
        f"{len(evaluation.reliability)} bins). {_tendency(filled)}"
    )
    rows = [
        (
            f"{percent(part.above)} to {percent(part.up_to)}",
            count(part.samples),
            percent(part.confidence),
            percent(part.accuracy),
        )
        for part in filled
    ]
    head = ("Confidence", "Pictures", "Mean confidence", "Accuracy")
    name = "Reliability table"
    return join(
        [
            element("p", told),
            element("figure", _diagram(filled, told), _legend(), class_="card square"),
            element("details", element("summary", "The bins as a table"), table(name, head, rows)),
        ]
    )


def _tendency(filled: list[ReliabilityBin]) -> str:
    gaps = [part.samples * ((part.confidence or 0) - (part.accuracy or 0)) for part in filled]
    gap = sum(gaps) / sum(part.samples for part in filled)
    if abs(gap) < 0.01:
        return "It is about as sure as it is right."
    return "It is surer than it is right." if gap > 0 else "It is more often right than it is sure."


def _diagram(filled: list[ReliabilityBin], told: str) -> Markup:
    parts: list[Markup] = []
    for step in range(0, 101, 20):
        across, up = _x(step / 100), _y(step / 100)
        parts.append(element("line", class_="grid", x1=EDGE, x2=SIDE - END, y1=up, y2=up))
        parts.append(element("text", f"{step} %", x=EDGE - 5, y=up + 4, text_anchor="end"))
        if step:
            parts.append(element("text", step, x=across, y=SIDE - EDGE + 14, text_anchor="middle"))
    most = max(part.samples for part in filled)
    for part in filled:
        accuracy, confidence = part.accuracy or 0.0, part.confidence or 0.0
        left, right = _x(part.above) + 1, _x(part.up_to) - 1
        top = _y(accuracy)
        strength = round(0.2 + 0.7 * (part.samples / most) ** 0.5, 2)
        size = {"width": round(right - left, 1), "height": round(_y(0) - top, 1)}
        parts.append(
            element("rect", class_="bar", x=round(left, 1), y=round(top, 1), fill_opacity=strength, **size)
        )
        level = round(_y(confidence), 1)
        parts.append(
            element("line", class_="mark", x1=round(left, 1), x2=round(right, 1), y1=level, y2=level)
        )
    parts.append(element("line", class_="ideal", x1=_x(0), y1=_y(0), x2=_x(1), y2=_y(1)))
    middle = (EDGE + SIDE - END) / 2
    parts.append(element("text", "confidence in %", x=middle, y=SIDE - 4, text_anchor="middle"))
    return element("svg", parts, viewBox=f"0 0 {SIDE} {SIDE}", role="img", aria_label=f"Diagram. {told}")


def _legend() -> Markup:
    keys = [
        ("bar", "accuracy, the fuller the more pictures"),
        ("mark", "confidence"),
        ("ideal", "as sure as right"),
    ]
    return element(
        "ul",
        (element("li", element("span", class_=f"key {key}"), name) for key, name in keys),
        class_="legend",
    )


def _x(share: float) -> float:
    return EDGE + share * (SIDE - EDGE - END)


def _y(share: float) -> float:
    return SIDE - EDGE - share * (SIDE - EDGE - END)
