"""When a rule raises: so many predictions within its window, then a cool-down, for each source apart.

Pure: time is an argument, in whole milliseconds, and never goes back. Nothing is kept of a source until one of its
predictions counts. The table is bounded in sources and in the times that it holds; the sources that counted least
recently go first, and what is forgotten of them is that they had counted or raised.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

MAX_SOURCES = 1024
MAX_TIMES = 200_000
"""Of all sources and rules together, some 40 bytes each."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What of a rule concerns time."""

    count: int
    """Predictions within the window that raise it."""
    window: int
    """Milliseconds."""
    cooldown: int
    """Milliseconds from one alarm of a source to its next; 0: none."""


@dataclass(frozen=True, slots=True)
class Raised:
    """A rule was raised, now."""

    count: int
    """Predictions that it took."""
    began: int
    """When the first of them was."""
    period: int
    """Number of the alarm's period of time, the same in all pods; it grows with each alarm of the source.

    Periods are as long as the cool-down, so that one pod never raises twice in one of them; without a cool-down each
    alarm is a period of its own.
    """


@dataclass(slots=True)
class _State:
    """Of one source and one rule."""

    times: deque[int] = field(default_factory=deque)
    raised: int | None = None
    period: int = -1


class Rules:
    """All rules, with what has been seen of each source."""

    def __init__(self, rules: list[Rule], max_sources: int = MAX_SOURCES, max_times: int = MAX_TIMES) -> None:
        self._rules = rules
        self._max_sources = max_sources
        self._max_times = max_times
        self._table: OrderedDict[str, dict[int, _State]] = OrderedDict()
        self._times = 0

    @property
    def sources(self) -> int:
        """Sources that something is kept of."""
        return len(self._table)

    @property
    def times(self) -> int:
        """Times that are kept of all sources."""
        return self._times

    def count(self, number: int, source: str, now: int) -> Raised | None:
        """Counts a prediction that fulfils rule `number`; what it raised, if anything."""
        rule = self._rules[number]
        states = self._table.get(source)
        if states is None:
            states = self._table[source] = {}
        else:
            self._table.move_to_end(source)
        state = states.get(number)
        if state is None:
            state = states[number] = _State()
        self._append(state, rule, now)
        raised = _raise(state, rule, now)
        if raised:
            self._times -= len(state.times)
            state.times.clear()
        self._forget()
        return raised

    def _append(self, state: _State, rule: Rule, now: int) -> None:
        times = state.times
        before = len(times)
        while times and (times[0] <= now - rule.window or len(times) >= rule.count):
            times.popleft()
        times.append(now)
        self._times += len(times) - before

    def _forget(self) -> None:
        """Removes the sources that counted least recently; the one that counts now always stays."""
        while len(self._table) > self._max_sources or (
            self._times > self._max_times and len(self._table) > 1
        ):
            _, states = self._table.popitem(last=False)
            self._times -= sum(len(state.times) for state in states.values())


def _raise(state: _State, rule: Rule, now: int) -> Raised | None:
    if len(state.times) < rule.count:
        return None
    if state.raised is not None and now - state.raised < rule.cooldown:
        return None
    state.raised = now
    state.period = now // rule.cooldown if rule.cooldown else max(now, state.period + 1)
    return Raised(len(state.times), state.times[0], state.period)
