"""The end of a container: message, exit code, SIGTERM."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lepton_workloads.contract.outcome import (
    EXIT_RETRY,
    EXIT_TERMINAL,
    MAX_MESSAGE_BYTES,
    Failure,
    Outcome,
    PrepareResult,
)
from lepton_workloads.termination import WorkloadError, printable, run_main, write_outcome

from .conftest import Pod


def failing(error: Exception) -> Outcome:
    raise error


def test_success_is_exit_0_and_an_outcome_without_reason(pod: Pod) -> None:
    assert run_main(Outcome) == 0
    outcome = pod.outcome()
    assert outcome is not None
    assert outcome.reason is None


@pytest.mark.parametrize(("terminal", "code"), [(True, EXIT_TERMINAL), (False, EXIT_RETRY)])
def test_known_failures_keep_reason_and_message(pod: Pod, terminal: bool, code: int) -> None:
    error = WorkloadError(Failure.DIVERGED, "lower the learning rate", terminal=terminal)
    assert run_main(lambda: failing(error)) == code
    outcome = pod.outcome()
    assert outcome == Outcome(reason="Diverged", message="lower the learning rate", terminal=terminal)


def test_unknown_failures_are_internal_and_worth_another_try(pod: Pod) -> None:
    assert run_main(lambda: failing(KeyError("x"))) == EXIT_RETRY
    assert pod.outcome() == Outcome(reason="InternalError", message="KeyError: 'x'", terminal=False)


def test_messages_of_any_size_and_bytes_fit(pod: Pod) -> None:
    for text in ("x" * 100_000, "語" * 100_000, "\udc80\udcff" * 900, '"\\\n' * 900):
        run_main(lambda text=text: failing(WorkloadError(Failure.INVALID_DATA, text, terminal=True)))
        assert len((pod.root / "termination").read_bytes().strip()) <= MAX_MESSAGE_BYTES
        outcome = pod.outcome()
        assert outcome is not None
        assert outcome.reason == Failure.INVALID_DATA


def test_labels_go_before_the_result_does(pod: Pod) -> None:
    labels = ["語" * 40] * 64
    numbers = dict.fromkeys(
        ("samples", "classes", "train", "validation", "test", "invalid_files", "height", "width"), 1
    )
    result = PrepareResult(key="a" * 64, labels=labels, reused=False, channels=3, bytes=1, **numbers)
    write_outcome(Outcome(prepare=result))
    outcome = pod.outcome()
    assert outcome is not None
    assert outcome.prepare is not None
    assert 5 < len(outcome.prepare.labels) < 64


def test_an_unwritable_message_keeps_the_exit_code(pod: Pod) -> None:
    pod.monkeypatch.setenv("LEPTON_TERMINATION_FILE", str(pod.root / "missing/file"))
    assert run_main(Outcome) == 0


def test_printable_replaces_what_is_no_text() -> None:
    assert printable("a\udc80b") == "a?b"
    assert len(printable("x" * 50, 10)) == 10


SCRIPT = """
import sys, time
from lepton_workloads.contract.outcome import Outcome
from lepton_workloads.termination import at_sigterm, run_and_exit

def main():
    at_sigterm(lambda: print("cleaned", flush=True))
    print("ready", flush=True)
    {work}
    return Outcome()

run_and_exit(main)
"""


def start(pod: Pod, work: str) -> "subprocess.Popen[str]":
    workloads = Path(sys.modules["lepton_workloads"].__path__[0]).parent
    pod.monkeypatch.setenv("PYTHONPATH", str(workloads))
    script = SCRIPT.format(work=work)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


def test_sigterm_ends_at_once_though_the_main_thread_is_busy(pod: Pod) -> None:
    process = start(pod, "time.sleep(600)")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    rest = process.stdout.read()
    assert process.wait(20) == 143
    assert "cleaned" in rest
    assert json.loads(rest.splitlines()[0])["message"] == "Stopped by SIGTERM"


def test_a_process_exits_with_the_code_and_logs_the_traceback(pod: Pod) -> None:
    process = start(pod, "raise RuntimeError('broken')")
    output, _ = process.communicate(timeout=30)
    assert process.returncode == EXIT_RETRY
    line = json.loads(output.splitlines()[-1])
    assert line["level"] == "error"
    assert "RuntimeError: broken" in line["traceback"]
    outcome = pod.outcome()
    assert outcome is not None
    assert outcome.message == "RuntimeError: broken"
