"""What a whole run found, and the figures, the table and the numbers for the chart that are made of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bench.figures import Figure
from bench.serving.cells import CLIENTS, GOALS, WORDS, Cell, better
from bench.serving.load import Taken
from bench.serving.requests import KINDS
from bench.serving.servers import INT8, LEPTON, SERVERS, Server

BUSY_CLIENT = 0.9
"""Above this share of its core the load may have measured itself."""
MIB = "MiB"


@dataclass
class Results:
    """Grows while the measure runs."""

    servers: Sequence[Server] = SERVERS
    dot_products: bool = True
    """Whether the processor has dot products of 8-bit numbers."""
    cells: dict[Cell, Taken] = field(default_factory=dict)
    starts: dict[str, float] = field(default_factory=dict)
    """Seconds from the start to the first good answer, the least of all starts."""
    memory: dict[str, tuple[float, float]] = field(default_factory=dict)
    """RSS and PSS in MiB, the most of all rounds, after the load."""
    failures: dict[str, str] = field(default_factory=dict)
    """Why a server is missing, by name."""
    wrong: dict[tuple[str, str], str] = field(default_factory=dict)
    """Why a kind of request is missing, by server and kind."""
    loops: dict[str, float] = field(default_factory=dict)
    """Inputs a second of the engine alone in a loop, by precision."""

    def add_cell(self, cell: Cell, taken: Taken) -> None:
        """One round of a cell."""
        self.cells[cell] = better(self.cells.get(cell), taken)

    def add_start(self, name: str, seconds: float) -> None:
        """One start of a server."""
        self.starts[name] = min(seconds, self.starts.get(name, seconds))

    def add_memory(self, name: str, memory: tuple[float, float]) -> None:
        """Of a server after its load."""
        before = self.memory.get(name, (0.0, 0.0))
        self.memory[name] = max(before[0], memory[0]), max(before[1], memory[1])


def figures(results: Results) -> list[Figure]:
    """Goals first, then what Lepton's own server does; a goal that can't be told is counted and so never forgotten."""
    told = [(goal, goal.figure(results.cells)) for goal in GOALS]
    found = [
        _without_dot_products(figure) if goal.dot_products and not results.dot_products else figure
        for goal, figure in told
        if figure is not None
    ]
    untold = sum(1 for goal, figure in told if figure is None and goal.budget)
    if LEPTON in results.starts:
        what = "serving: from the start to the first answer"
        found.append(Figure("serving.start", what, results.starts[LEPTON], "s", "<= 0.5"))
    if LEPTON in results.memory:
        what = "serving: resident memory after the load"
        found.append(Figure("serving.memory", what, results.memory[LEPTON][0], MIB, "<= 100"))
    untold += (LEPTON not in results.starts) + (LEPTON not in results.memory)
    found.append(Figure("serving.untold", "serving: goals that could not be measured", untold, budget="0"))
    found += _of_loops(results)
    for (name, kind, clients), taken in results.cells.items():
        if name in (LEPTON, INT8):
            what = f"serving, {WORDS[kind]}, {clients} clients{': int8' if name == INT8 else ''}"
            found.append(Figure(f"serving.{name}-{kind}-{clients}", what, taken.rate, "requests/s"))
    return found


def _without_dot_products(figure: Figure) -> Figure:
    """The same, shown without a budget: it can't be kept here, and who reads it must know."""
    what = f"{figure.what} (no budget: this processor has no dot products of 8-bit numbers)"
    return replace(figure, key=f"{figure.key}-plain", what=what, budget="")


def _of_loops(results: Results) -> list[Figure]:
    """How much of the engine is left behind HTTP and all checks."""
    found = []
    for name, precision in ((LEPTON, "float32"), (INT8, "int8")):
        taken, rate = results.cells.get(Cell(name, "binary", 64)), results.loops.get(precision)
        if taken and rate:
            what = f"serving, {WORDS['binary']}, 64 clients, {precision}: share of the engine in a loop without HTTP"
            found.append(Figure(f"serving.loop-{precision}", what, taken.rate / rate, "x"))
    if set(results.loops) == {"float32", "int8"}:
        what = "serving: the engine in a loop without HTTP, int8 against float"
        found.append(Figure("serving.loop-gain", what, results.loops["int8"] / results.loops["float32"], "x"))
    return found


def markdown(results: Results) -> str:
    """One table for each kind of request, one of starts and memory, and what went wrong."""
    parts = [_of_kind(results, kind) for kind in KINDS]
    parts.append(_of_servers(results))
    if notes := _notes(results):
        parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts) + "\n"


def _of_kind(results: Results, kind: str) -> str:
    counts = " / ".join(map(str, CLIENTS))
    rows = [
        f"| {WORDS[kind]}, {counts} clients | engine | requests/s | p50 ms | p99 ms | CPU us a request | errors |",
        "|---|---|---|---|---|---|---|",
    ]
    for server in results.servers:
        if kind not in server.requests:
            continue
        name = f"| {server.words} | {server.engine} "
        if why := _missing(results, server, kind):
            rows.append(f"{name}| {why} | | | | |")
            continue
        row = [results.cells.get(Cell(server.name, kind, clients)) for clients in CLIENTS]
        columns = [
            _column(row, lambda taken: _number(taken.rate)),
            _column(row, lambda taken: _number(taken.p50) if taken.answers else "-"),
            _column(row, lambda taken: _number(taken.p99) if taken.answers else "-"),
            _column(row, lambda taken: f"{taken.cpu_per_answer:,.0f}" if taken.answers else "-"),
            _column(row, lambda taken: errors_in_words(taken.errors)),
        ]
        rows.append(f"{name}| {' | '.join(columns)} |")
    return "\n".join(rows)


def _missing(results: Results, server: Server, kind: str) -> str:
    if server.name in results.failures:
        return "not measured, see below"
    return "wrong answers, see below" if (server.name, kind) in results.wrong else ""


def _of_servers(results: Results) -> str:
    rows = ["| server | engine | start s | RSS MiB | PSS MiB |", "|---|---|---|---|---|"]
    for server in results.servers:
        if server.name in results.starts and server.name in results.memory:
            resident, share = results.memory[server.name]
            start = _number(results.starts[server.name])
            rows.append(f"| {server.words} | {server.engine} | {start} | {resident:.0f} | {share:.0f} |")
    return "\n".join(rows)


def _notes(results: Results) -> list[str]:
    by_name = {server.name: f"{server.words} with {server.engine}" for server in results.servers}
    notes = [
        f"The engine alone in a loop, without HTTP, {precision}: {rate:,.0f} inputs a second."
        for precision, rate in results.loops.items()
    ]
    if not results.dot_products:
        notes.append(
            "This processor has no dot products of 8-bit numbers (VNNI), by which int8 is faster elsewhere."
        )
    notes += [f"{by_name.get(name, name)} was not measured: {why}" for name, why in results.failures.items()]
    notes += [
        f"{by_name[name]}, {WORDS[kind]}, was not measured: {why}"
        for (name, kind), why in results.wrong.items()
    ]
    notes += [
        f"{by_name[cell.server]}, {WORDS[cell.kind]}, {cell.clients} clients: the load took {taken.client_cpu:.0%} of "
        "its core, so the server may be faster."
        for cell, taken in results.cells.items()
        if taken.client_cpu > BUSY_CLIENT
    ]
    return notes


def errors_in_words(errors: Mapping[str, int]) -> str:
    """Such as `12 x 503, 3 x closed`."""
    return ", ".join(f"{count} x {what}" for what, count in sorted(errors.items())) or "none"


def _column(row: Sequence[Taken | None], show: Callable[[Taken], str]) -> str:
    """`a / b / c`; one word where there are no numbers at all."""
    texts = ["-" if taken is None else show(taken) for taken in row]
    return texts[0] if set(texts) in ({"none"}, {"-"}) else " / ".join(texts)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
