"""Numbers and names as people read them."""

from lepton_workloads.contract.judgement import Gate
from lepton_workloads.train.metrics import Metrics
from lepton_workloads.train.report_page.markup import Markup, element

MAX_LABEL = 60
MAX_FILE = 200


def percent(share: float | None) -> str:
    """`97.8 %`; a dash for what is undefined."""
    return "–" if share is None else f"{100 * share:.1f}\u00a0%"


def coarse_percent(share: float) -> str:
    """For axes: no more digits than needed."""
    return f"{100 * share:.4g}\u00a0%"


def number(value: float | None) -> str:
    """Three significant digits."""
    return "–" if value is None else f"{value:.3g}"


def count(value: int) -> str:
    """Groups of three digits."""
    return f"{value:,}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    """`12 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(value: int) -> str:
    """Bytes in KiB or MiB."""
    return f"{value / 1024:.0f} KiB" if value < 1024**2 else f"{value / 1024**2:.1f} MiB"


def short(value: str, limit: int = MAX_LABEL) -> str:
    """Not longer than the limit, and never invisible."""
    seen = value if value.strip() else f'"{value}"'
    return seen if len(seen) <= limit else seen[: limit - 1] + "…"


def label(value: str, limit: int = MAX_LABEL) -> Markup:
    """A label or file name: its direction of writing changes nothing around it."""
    return element("bdi", short(value, limit))


def plural(amount: int, one: str, many: str) -> str:
    """`1 picture`, `3 pictures`."""
    return f"{count(amount)} {one if amount == 1 else many}"


def verdict(gate: Gate | None, metrics: Metrics) -> tuple[str, str, str]:
    """(kind, headline, sentence) of the gate's verdict; the kind is good, bad or open."""
    value = metrics.gate_value
    if gate is None:
        return "open", "No gate was set", "Nothing was demanded of this version, so any model may serve it."
    demand = f"The gate asks for {gate.demand}"
    if gate.metric == "crossValidationAccuracy":
        text = f"{demand}. The folds run after this page was written; the job's status holds the verdict."
        return "open", "The gate is decided by the cross-validation", text
    if value is None:
        text = f"{demand}, but the test split holds no picture of that class, so nobody knows."
        return "bad", "The gate can't be judged", text
    if gate.is_passed(value):
        return "good", "The gate is passed", f"{demand}, and it is {value:.4g} on the test split."
    return "bad", "The gate is not passed", f"{demand}, but it is {value:.4g} on the test split."
