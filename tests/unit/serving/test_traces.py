"""W3C trace context: what is valid is passed on, what is not is ignored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_workloads.serve.traces import checked_traceparent, checked_tracestate, read_trace, trace_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{PARENT}-01"


def test_a_valid_one_is_taken_as_it_is() -> None:
    assert checked_traceparent(VALID) == VALID
    assert trace_id(VALID) == TRACE
    assert trace_id("") == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        VALID[:-1],
        VALID + "-00",
        VALID + " ",
        VALID.upper(),
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{PARENT}-01",
        f"0g-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-0x",
        f"00_{TRACE}_{PARENT}_01",
        f"01-{TRACE}-{PARENT}-01more",
        f"00-{TRACE[:-1]}²-{PARENT}-01",
    ],
)
def test_an_invalid_one_is_ignored(text: str) -> None:
    assert checked_traceparent(text) == ""


def test_of_a_later_version_the_known_fields_are_taken() -> None:
    assert checked_traceparent(f"cc-{TRACE}-{PARENT}-ff-what-the-future-brings") == VALID
    assert checked_traceparent(f"01-{TRACE}-{PARENT}-02") == f"00-{TRACE}-{PARENT}-00"


@given(st.text(max_size=80))
def test_any_text_gives_a_valid_one_or_none(text: str) -> None:
    found = checked_traceparent(text)
    assert found == "" or checked_traceparent(found) == found


def test_headers_are_read_together() -> None:
    parent = (b"traceparent", VALID.encode())
    states = [(b"tracestate", b"a=1"), (b"tracestate", b"b=2")]
    assert read_trace([parent, (b"accept", b"*/*"), *states]) == (VALID, "a=1,b=2")
    assert read_trace([parent, parent, *states]) == ("", "")
    assert read_trace([(b"traceparent", b"x"), *states]) == ("", "")
    assert read_trace(states) == ("", "")


def test_a_tracestate_is_bounded_by_whole_entries() -> None:
    assert checked_tracestate("a=1") == "a=1"
    assert checked_tracestate("ä=1") == ""
    assert checked_tracestate("a=\x01") == ""
    entries = [f"vendor{number}={'x' * 90}" for number in range(10)]
    assert checked_tracestate(",".join(entries)) == ",".join(entries[:5])
    assert checked_tracestate("x" * 600) == ""
