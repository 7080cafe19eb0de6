"""Messages hold nothing that is another one at each try."""

import pytest

from lepton_operator.faults.text import clip, last_line, moment, signal_name, times


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("dial tcp 10.0.0.5:40001->10.0.0.1:443: refused", "dial tcp 10.0.0.1:443: refused"),
        ("read udp [fd00::1]:40001->[fd00::2]:53: timeout", "read udp [fd00::2]:53: timeout"),
        ("2026-11-25 01:02:03.123456: F core.cc broken", "F core.cc broken"),
        ("<object at 0x7f03a1b2c3d4>", "<object at 0x...>"),
        ('Get "http://10.244.1.6:8080/readyz": refused', 'Get "/readyz": refused'),
        ('Get "http://[fd00::1]:8080/readyz": refused', 'Get "/readyz": refused'),
        (f'sandbox "{"ab" * 32}" failed', 'sandbox "..." failed'),
        ("rpc error: code = Unknown desc = why", "why"),
        (f"image example@sha256:{'ab' * 32} is gone", f"image example@sha256:{'ab' * 32} is gone"),
        ("two\n lines.", "two lines"),
    ],
)
def test_what_differs_from_try_to_try_is_left_out(said: str, kept: str) -> None:
    assert clip(said) == kept


def test_counts_grow_in_steps() -> None:
    assert [times(count) for count in (1, 2, 4, 5, 9, 10, 73, 4000)] == [
        "1 time", "2 times", "4 times", "at least 5 times", "at least 5 times", "at least 10 times",
        "at least 50 times", "at least 1000 times",
    ]  # fmt: skip


def test_signals_have_names() -> None:
    names = {137: "SIGKILL", 143: "SIGTERM", 139: "SIGSEGV", 134: "SIGABRT", 1: "", 255: ""}
    assert {code: signal_name(code) for code in names} == names


def test_nonsense_times_and_texts_are_borne() -> None:
    assert (moment(None), moment("never"), moment("1970-01-01T00:00:01Z")) == (0.0, 0.0, 1.0)
    assert (clip(None), last_line(None), last_line("\n \n")) == ("", "", "")
