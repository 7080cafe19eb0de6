"""When rules raise: windows, cool-downs, the bounded table of sources."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from lepton_workloads.serve.alarms.rules import Rule, Rules


def raised_at(rule: Rule, times: list[int], source: str = "a") -> list[int]:
    rules = Rules([rule])
    return [time for time in times if rules.count(0, source, time)]


def test_one_is_enough_where_the_count_is_one() -> None:
    assert raised_at(Rule(1, 1000, 0), [5, 6, 7]) == [5, 6, 7]


def test_so_many_within_the_window_raise_it() -> None:
    rule = Rule(3, 1000, 0)
    assert raised_at(rule, [0, 500, 999]) == [999]
    assert raised_at(rule, [0, 500, 1000]) == []
    assert raised_at(rule, [0, 900, 1000, 1100]) == [1100]


def test_each_alarm_takes_predictions_of_its_own() -> None:
    assert raised_at(Rule(2, 1000, 0), [0, 1, 2, 3, 4]) == [1, 3]


def test_a_source_is_quiet_in_its_cooldown_and_raises_again_after_it() -> None:
    rule = Rule(2, 1000, 5000)
    assert raised_at(rule, list(range(0, 12_000, 500))) == [500, 5500, 10_500]


def test_sources_and_rules_do_not_disturb_each_other() -> None:
    rules = Rules([Rule(1, 1000, 60_000), Rule(2, 1000, 60_000)])
    assert rules.count(0, "a", 0)
    assert rules.count(0, "b", 1)
    assert not rules.count(1, "a", 2)
    assert not rules.count(1, "b", 3)
    assert rules.count(1, "a", 4)
    assert not rules.count(0, "a", 5)


def test_an_alarm_says_what_it_took() -> None:
    rules = Rules([Rule(3, 1000, 2000)])
    rules.count(0, "a", 4000)
    rules.count(0, "a", 4100)
    raised = rules.count(0, "a", 4200)
    assert raised
    assert (raised.count, raised.began, raised.period) == (3, 4000, 2)


def test_the_table_forgets_the_source_that_counted_least_recently() -> None:
    rules = Rules([Rule(1, 1000, 60_000)], max_sources=2)
    assert rules.count(0, "a", 0)
    assert rules.count(0, "b", 1)
    assert not rules.count(0, "a", 2)
    assert rules.count(0, "c", 3)
    assert rules.sources == 2
    assert not rules.count(0, "a", 4)
    assert rules.count(0, "b", 5)


RULES = st.lists(
    st.builds(Rule, st.integers(1, 5), st.integers(1, 3000), st.sampled_from([0, 1, 500, 4000])),
    min_size=1,
    max_size=3,
)
STEPS = st.lists(
    st.tuples(st.integers(0, 700), st.integers(0, 2), st.sampled_from("abcdef")), min_size=1, max_size=200
)


@given(RULES, STEPS)
def test_never_more_than_one_alarm_in_a_cooldown_and_never_without_its_count(
    kinds: list[Rule], steps: list[tuple[int, int, str]]
) -> None:
    rules = Rules(kinds)
    now = 1_700_000_000_000
    counted: dict[tuple[int, str], list[int]] = defaultdict(list)
    alarms: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
    for step, number, source in steps:
        number %= len(kinds)
        now += step
        key = number, source
        counted[key].append(now)
        raised = rules.count(number, source, now)
        if raised:
            rule = kinds[number]
            last = alarms[key][-1][0] if alarms[key] else None
            assert last is None or now - last >= rule.cooldown
            assert sum(time > now - rule.window for time in counted[key]) >= raised.count == rule.count
            assert raised.began in counted[key]
            assert raised.period not in [period for _, period in alarms[key]]
            alarms[key].append((now, raised.period))
    for (number, _), times in counted.items():
        if kinds[number].count == 1:
            assert alarms[number, _], times


@given(RULES, STEPS, st.integers(1, 3), st.integers(1, 6))
def test_the_table_stays_within_its_bounds(
    kinds: list[Rule], steps: list[tuple[int, int, str]], sources: int, times: int
) -> None:
    rules = Rules(kinds, max_sources=sources, max_times=times)
    now = 0
    for step, number, source in steps:
        now += step
        rules.count(number % len(kinds), source, now)
        assert 1 <= rules.sources <= sources
        assert rules.times <= times or rules.sources == 1
        assert 0 <= rules.times <= sources * sum(kind.count for kind in kinds)
