"""What is measured: cells of server, kind of request and number of clients, and the goals made of them.

The slow engine's cells are taken once; they are a hundred times away from the others. All cells of the others are
taken in the first round, and those that goals are made of in further rounds; the servers take turns at each kind and
number of clients.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from bench.figures import Figure
from bench.serving.load import PATIENCE_SECONDS, Taken
from bench.serving.requests import KINDS
from bench.serving.servers import BARE, BY_NAME, INT8, LEPTON, SERVERS, Server

CLIENTS = (1, 8, 64)
ROUNDS = 3


class Cell(NamedTuple):
    """Who is asked for what by how many."""

    server: str
    kind: str
    clients: int


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio of two cells, ours first."""

    key: str
    words: str
    ours: Cell
    theirs: Cell
    of: Literal["rate", "p99"] = "rate"
    budget: str = ""
    dot_products: bool = False
    """The budget is for processors with dot products of 8-bit numbers; without them 8 bits gain little."""

    def figure(self, taken: Mapping[Cell, Taken]) -> Figure | None:
        """None when one of the two could not be measured."""
        ours, theirs = taken.get(self.ours), taken.get(self.theirs)
        if ours is None or theirs is None or not ours.answers or not theirs.answers:
            return None
        ratio = ours.rate / theirs.rate if self.of == "rate" else ours.p99 / theirs.p99
        return Figure(f"serving.{self.key}", f"serving, {self.words}", ratio, "x", self.budget)


def _against(key: str, kind: str, clients: int, server: str, budget: str) -> Goal:
    other = BY_NAME[server]
    asked = f"{WORDS[kind]}, {clients} clients"
    return Goal(
        key,
        f"{asked}: requests/s against {other.words} with {other.engine}",
        Cell(LEPTON, kind, clients),
        Cell(server, kind, clients),
        budget=budget,
    )


WORDS = {
    "json": "JSON tensor",
    "binary": "binary tensor",
    "small": "JPEG of 32x32",
    "large": "JPEG of 640x480",
}
GOALS = (
    _against("json-8-kserve-keras", "json", 8, "kserve-keras", ">= 80"),
    _against("json-8-kserve-onnx", "json", 8, "kserve-onnx", ">= 3.5"),
    _against("json-64-kserve-onnx", "json", 64, "kserve-onnx", ">= 4"),
    _against("binary-64-kserve-onnx", "binary", 64, "kserve-onnx", ">= 6"),
    _against("binary-64-bare", "binary", 64, BARE, ">= 0.75"),
    _against("large-8-kserve-onnx", "large", 8, "kserve-onnx", ">= 4"),
    _against("large-64-kserve-onnx", "large", 64, "kserve-onnx", ">= 4"),
    _against("large-8-fastapi-litert", "large", 8, "fastapi-litert", ">= 1.5"),
    _against("large-64-fastapi-litert", "large", 64, "fastapi-litert", ">= 1.5"),
    _against("large-8-fastapi-onnx", "large", 8, "fastapi-onnx", ""),
    _against("large-8-fastapi-draft", "large", 8, "fastapi-draft", ""),
    Goal(
        "binary-64-int8",
        f"{WORDS['binary']}, 64 clients: requests/s of int8 against float",
        Cell(INT8, "binary", 64),
        Cell(LEPTON, "binary", 64),
        budget=">= 2.5",
        dot_products=True,
    ),
    *(
        Goal(
            f"p99-{clients}-bare",
            f"{WORDS['binary']}, {clients} clients: p99 against {BY_NAME[BARE].words}",
            Cell(LEPTON, "binary", clients),
            Cell(BARE, "binary", clients),
            "p99",
            "<= 1.5",
        )
        for clients in (1, 64)
    ),
)


def cells_of(server: Server) -> list[Cell]:
    """All of them."""
    return [
        Cell(server.name, kind, clients) for kind in KINDS if kind in server.requests for clients in CLIENTS
    ]


def round_of_fast(number: int, names: Iterable[str]) -> list[Cell]:
    """Cells of the fast servers in round `number`, from 0, in the order in which they are taken."""
    needed = {cell for goal in GOALS for cell in (goal.ours, goal.theirs)}
    there = set(names)
    found = [
        cell
        for server in SERVERS
        if not server.slow and server.name in there
        for cell in cells_of(server)
        if number == 0 or cell in needed
    ]
    return sorted(found, key=lambda cell: (KINDS.index(cell.kind), cell.clients))


def better(before: Taken | None, now: Taken) -> Taken:
    """The faster round, with the least waiting and CPU of any round that answered, and with the errors of all."""
    if before is None:
        return now
    faster, slower = (before, now) if before.rate >= now.rate else (now, before)
    errors = {
        what: before.errors.get(what, 0) + now.errors.get(what, 0) for what in {**before.errors, **now.errors}
    }
    if not slower.answers:
        return replace(faster, errors=errors)
    cheaper = min((before, now), key=lambda one: one.cpu_per_answer)
    return replace(
        faster,
        p50=min(before.p50, now.p50),
        p99=min(before.p99, now.p99),
        cpu=cheaper.cpu_per_answer * faster.answers / 1e6,
        errors=errors,
    )


def planned_seconds(seconds: float, warm_up: float) -> float:
    """About how long all cells take; starts of servers come on top."""
    fast = [server.name for server in SERVERS if not server.slow]
    cells = sum(len(round_of_fast(number, fast)) for number in range(ROUNDS))
    slow = [cell for server in SERVERS if server.slow for cell in cells_of(server)]
    patience = sum(PATIENCE_SECONDS for cell in slow if cell.clients == max(CLIENTS))
    return (cells + len(slow)) * (seconds + warm_up) + patience
