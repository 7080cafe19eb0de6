"""Verdicts -> conditions, transition times, Events."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_operator.conditions import (
    AVAILABLE,
    READY,
    SUCCEEDED,
    Extra,
    State,
    Verdict,
    build_conditions,
    is_true,
    seconds,
    stall_after,
    timestamp,
    transition_event,
)
from tests.unit.builders import NOW, Obj, dataset, kstatus, states

ROWS = [
    # (main type, state) -> main, Reconciling, Stalled, kstatus
    (READY, State.DONE, "True", "False", "False", "Current"),
    (READY, State.PROGRESSING, "False", "True", "False", "InProgress"),
    (READY, State.STARTING, "False", "True", "False", "InProgress"),
    (READY, State.WAITING, "False", "True", "False", "InProgress"),
    (READY, State.STALLED, "False", "False", "True", "Failed"),
    (READY, State.FAILED, "False", "False", "True", "Failed"),
    (SUCCEEDED, State.DONE, "True", "False", "False", "Current"),
    (SUCCEEDED, State.PROGRESSING, "Unknown", "True", "False", "InProgress"),
    (SUCCEEDED, State.STARTING, "Unknown", "True", "False", "InProgress"),
    (SUCCEEDED, State.WAITING, "Unknown", "True", "False", "InProgress"),
    (SUCCEEDED, State.STALLED, "Unknown", "False", "True", "Failed"),
    (SUCCEEDED, State.FAILED, "False", "False", "True", "Failed"),
]


def told(obj: Obj, verdict: Verdict, now: float = NOW, main: str = READY) -> Obj:
    """The object after the conditions were written."""
    rows = build_conditions(obj, main, verdict, now)
    return {**obj, "status": {"observedGeneration": obj["metadata"]["generation"], "conditions": rows}}


@pytest.mark.parametrize(("main", "state", "is_main", "reconciling", "stalled", "says"), ROWS)
def test_states(main: str, state: State, is_main: str, reconciling: str, stalled: str, says: str) -> None:
    obj = told(dataset(), Verdict(state, "Why", "because"), main=main)
    assert states(obj["status"]) == {main: is_main, "Reconciling": reconciling, "Stalled": stalled}
    assert kstatus(obj) == says


def test_an_object_that_nobody_has_seen_or_that_was_edited_is_in_progress() -> None:
    assert kstatus(dataset()) == "InProgress"
    obj = told(dataset(), Verdict(State.DONE, "Why", "because"))
    obj["metadata"]["generation"] = 2
    assert kstatus(obj) == "InProgress"


def test_an_extra_stands_behind_the_main_condition() -> None:
    extra = Extra(AVAILABLE, True, "Answering", "1 pod answers")
    rows = build_conditions(dataset(), READY, Verdict(State.WAITING, "Why", "because"), NOW, [extra])
    assert [row["type"] for row in rows] == [READY, AVAILABLE, "Reconciling", "Stalled"]
    assert rows[1]["status"] == "True"


def test_times_move_only_when_the_status_flips() -> None:
    first = told(dataset(), Verdict(State.PROGRESSING, "One", "one"))
    second = told(first, Verdict(State.PROGRESSING, "Two", "two"), NOW + 5)
    assert {row["lastTransitionTime"] for row in second["status"]["conditions"]} == {timestamp(NOW)}
    assert second["status"]["conditions"][0]["reason"] == "Two"
    third = told(second, Verdict(State.DONE, "Three", "three"), NOW + 9)
    times = {row["type"]: row["lastTransitionTime"] for row in third["status"]["conditions"]}
    assert times == {READY: timestamp(NOW + 9), "Reconciling": timestamp(NOW + 9), "Stalled": timestamp(NOW)}


def test_long_messages_fit_the_schema() -> None:
    obj = told(dataset(), Verdict(State.STALLED, "Why", "x" * 10_000))
    assert max(len(row["message"]) for row in obj["status"]["conditions"]) == 4096


@pytest.mark.parametrize(
    ("state", "after", "reason"),
    [(State.WAITING, State.STALLED, "Why"), (State.STARTING, State.STALLED, "StartupDeadlineExceeded")],
)
def test_waiting_stalls_exactly_at_the_deadline(state: State, after: State, reason: str) -> None:
    verdict = Verdict(state, "Why", "because")
    assert stall_after(verdict, NOW, 100, NOW + 99) == (verdict, 1)
    stalled, left = stall_after(verdict, NOW, 100, NOW + 100)
    assert (stalled.state, stalled.reason, left) == (after, reason, None)
    assert stalled.message == "because (for more than 100 s)"


@pytest.mark.parametrize("state", [State.DONE, State.PROGRESSING, State.STALLED, State.FAILED])
def test_nothing_else_stalls(state: State) -> None:
    verdict = Verdict(state, "Why", "because")
    assert stall_after(verdict, NOW, 0, NOW + 1e9) == (verdict, None)


@pytest.mark.parametrize(
    ("state", "trouble", "kind"),
    [
        (State.DONE, False, "Normal"),
        (State.PROGRESSING, False, "Normal"),
        (State.PROGRESSING, True, "Warning"),
        (State.STARTING, False, "Normal"),
        (State.WAITING, False, "Warning"),
        (State.STALLED, False, "Warning"),
        (State.FAILED, False, "Warning"),
    ],
)
def test_one_event_for_a_transition(state: State, trouble: bool, kind: str) -> None:
    verdict = Verdict(state, "Why", "because", trouble)
    (event,) = transition_event(dataset(), READY, verdict)
    assert (event.type, event.reason, event.message) == (kind, "Why", "because")
    obj = told(dataset(), verdict)
    assert transition_event(obj, READY, verdict) == ()
    assert transition_event(obj, READY, Verdict(state, "Why", "other figures")) == ()
    assert len(transition_event(obj, READY, Verdict(state, "Other", "because"))) == 1


def test_stalling_is_a_transition_though_the_reason_stays() -> None:
    obj = told(dataset(), Verdict(State.WAITING, "Why", "because"))
    assert len(transition_event(obj, READY, Verdict(State.STALLED, "Why", "because"))) == 1


def test_a_condition_of_another_generation_is_not_true() -> None:
    obj = told(dataset(), Verdict(State.DONE, "Why", "because"))
    assert is_true(obj, READY)
    obj["metadata"]["generation"] = 2
    assert not is_true(obj, READY)
    assert not is_true(dataset(), READY)
    assert not is_true({**dataset(), "status": None}, READY)


@given(st.floats(0, 4e9))
def test_times_come_back_in_whole_seconds(moment: float) -> None:
    assert seconds(timestamp(moment)) == int(moment)


def test_times_are_written_as_kubernetes_does() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 999_999, UTC).timestamp()
    assert timestamp(moment) == "2026-01-02T03:04:05Z"
    assert seconds("2026-01-02T03:04:05.250000Z") == int(moment) + 0.25
