"""The benchmark of serving: what it sends, how it counts, and what it makes of what it found."""

import asyncio
import json
import os
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.figures import load_ranges, outside
from bench.serving import load, requests
from bench.serving.cells import GOALS, ROUNDS, Cell, better, cells_of, planned_seconds, round_of_fast
from bench.serving.chart import svg
from bench.serving.environments import PEERS
from bench.serving.load import AnswerParser, Load, Taken
from bench.serving.network import SHAPE, Network
from bench.serving.process import ask
from bench.serving.results import Results, errors_in_words, figures, markdown
from bench.serving.run import Plan
from bench.serving.servers import BY_NAME, LEPTON, SERVERS
from bench.serving.usage import birth, cpu_seconds, has_dot_products, memory_mib, tree

NUMBERS = [number / 4 for number in range(SHAPE[1] * SHAPE[2] * SHAPE[3])]


@pytest.fixture
def network(tmp_path: Path) -> Network:
    """Contents of requests, no network."""
    (tmp_path / "tensor.bin").write_bytes(struct.pack(f"<{len(NUMBERS)}f", *NUMBERS))
    (tmp_path / "small.jpg").write_bytes(b"\xff\xd8\xffsmall")
    (tmp_path / "large.jpg").write_bytes(b"\xff\xd8\xfflarge")
    return Network(tmp_path)


def taken(**fields: object) -> Taken:
    values: dict[str, object] = {
        "seconds": 2.0, "answers": 200, "p50": 4.0, "p99": 9.0, "cpu": 1.0, "errors": {}, "client_cpu": 0.2,
    }  # fmt: skip
    return Taken(**{**values, **fields})  # type: ignore[arg-type]


def test_a_json_request_holds_the_tensor_in_its_shape(network: Network) -> None:
    asked = requests.predict_v1()(network, "json")
    [picture] = json.loads(asked.body)["instances"]
    assert (len(picture), len(picture[0]), len(picture[0][0])) == SHAPE[1:]
    assert [value for row in picture for pixel in row for value in pixel] == NUMBERS


def test_a_binary_request_is_that_of_the_protocol(network: Network) -> None:
    asked = requests.infer_v2(network, "binary")
    length = int(dict(asked.headers)["Inference-Header-Content-Length"])
    [given] = json.loads(asked.body[:length])["inputs"]
    assert given["shape"] == list(SHAPE)
    assert given["datatype"] == "FP32"
    assert given["parameters"]["binary_data_size"] == len(asked.body) - length
    assert asked.body[length:] == network.tensor()


def test_a_request_is_whole(network: Network) -> None:
    head, _, body = requests.raw("/classify")(network, "small").whole("127.0.0.1:1").partition(b"\r\n\r\n")
    assert head.startswith(b"POST /classify HTTP/1.1\r\n")
    assert b"content-length: %d" % len(body) in head
    assert body == network.picture("small")


def test_every_server_can_be_asked_whatever_it_is_measured_with(network: Network) -> None:
    for server in SERVERS:
        for kind, build in server.requests.items():
            assert build(network, kind).body, (server.name, kind)
        assert server.environment is None or (PEERS / f"{server.environment}.txt").exists()


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b'{"predictions": [[0.25, 0.75]]}'),
        ({}, b"[[0.25, 0.75]]"),
        ({}, b'{"outputs": [{"name": "p", "data": [0.25, 0.75]}]}'),
        ({}, b'{"predictions": [{"index": 1, "probability": 0.75}, {"index": 0, "probability": 0.25}]}'),
        ({"content-type": "application/octet-stream"}, struct.pack("<2f", 0.25, 0.75)),
        ({"inference-header-content-length": "2"}, b"{}" + struct.pack("<2f", 0.25, 0.75)),
    ],
)
def test_probabilities_are_found_in_every_form_of_answer(headers: dict[str, str], body: bytes) -> None:
    assert requests.read_answer(headers, body) == [0.25, 0.75]


@pytest.mark.parametrize("body", [b"", b"{}", b"no", b'{"predictions": []}', b'{"error": "none"}'])
def test_an_answer_without_probabilities_is_shown(body: bytes) -> None:
    with pytest.raises(ValueError, match="holds no probabilities"):
        requests.read_answer({}, body)


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx: y\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ],
)
def test_the_end_of_an_answer_is_found_however_it_comes(answer: bytes, step: int) -> None:
    parser = AnswerParser()
    for _ in range(2):
        whole = [parser.feed(answer[start : start + step]) for start in range(0, len(answer), step)]
        assert whole == [False] * (len(whole) - 1) + [True]
        assert parser.status == 200
        parser.reset()


def test_what_is_no_http_is_an_error() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        AnswerParser().feed(b"SSH-2.0-OpenSSH\r\n\r\n")


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[int]:
    """The port of a server that gives these answers in turn, and closes the connection for an empty one."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"end")
                answer = left.pop(0) if len(left) > 1 else left[0]
                if not answer:
                    break
                writer.write(answer)
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"


@pytest.fixture
def bytes_to_send(tmp_path: Path) -> str:
    """File with a request of the server above."""
    (tmp_path / "request").write_bytes(b"begin end")
    return str(tmp_path / "request")


async def test_good_answers_are_counted_and_timed(
    bytes_to_send: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "MOST_ANSWERS", 50)
    async with answering(GOOD) as port:
        found = await load.take(Load(port, bytes_to_send, 3, 30.0, 0.0, os.getpid()))
    assert 50 <= found.answers < 60
    assert found.errors == {}
    assert 0 < found.p50 <= found.p99
    assert found.rate > 0


async def test_errors_are_counted_by_what_they_are(
    bytes_to_send: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "MOST_ANSWERS", 1)
    async with answering(BUSY, BUSY, b"", b"nonsense\r\n\r\n", GOOD) as port:
        found = await load.take(Load(port, bytes_to_send, 1, 30.0, 0.0, os.getpid()))
    assert found.errors == {"503": 2, "closed": 1, "no HTTP": 1}
    assert found.answers > 0


async def test_a_request_that_is_never_answered_is_counted(
    bytes_to_send: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "PATIENCE_SECONDS", 0.1)
    async with answering(b" ") as port:
        found = await load.take(Load(port, bytes_to_send, 4, 1.0, 0.0, os.getpid()))
    assert found.errors == {"unanswered": 4}
    assert (found.answers, found.rate, found.p99, found.cpu_per_answer) == (0, 0, 0, 0)


async def test_nobody_there_is_an_error(bytes_to_send: str) -> None:
    async with answering(GOOD) as port:
        pass
    found = await load.take(Load(port, bytes_to_send, 1, 0.2, 0.0, os.getpid()))
    assert found.errors["refused"] >= 1


async def test_one_request_is_answered_with_status_headers_and_body() -> None:
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n2\r\n{}\r\n3;x=y\r\nabc\r\n0\r\n\r\n"
    )
    async with answering(GOOD, chunked) as port:
        assert await ask(port, b"end") == (200, {"content-length": "2"}, b"{}")
        assert await ask(port, b"end") == (200, {"transfer-encoding": "chunked", "a": "b"}, b"{}abc")


def test_children_count_to_a_server() -> None:
    program = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "1\n"
        family = tree(parent.pid)
        assert len(family) == 2
        resident, share = memory_mib(parent.pid)
        assert 0 < share <= resident
        assert cpu_seconds(parent.pid) >= 0
        born = birth(parent.pid)
        assert born
        assert all(map(birth, family))
        parent.communicate("\n")
    assert birth(parent.pid) == ""
    assert memory_mib(parent.pid) == (0, 0)


def test_the_best_of_several_rounds_counts_and_no_error_is_lost() -> None:
    first = taken(errors={"503": 1})
    second = taken(answers=300, p50=5.0, p99=8.0, cpu=1.8, errors={"503": 2, "closed": 1})
    both = better(better(None, first), second)
    assert both == better(second, first)
    assert (both.rate, both.p50, both.p99) == (150, 4.0, 8.0)
    assert both.cpu_per_answer == pytest.approx(5000)
    assert both.errors == {"503": 3, "closed": 1}
    silent = taken(answers=0, seconds=0.0, p50=0.0, p99=0.0, cpu=0.1, errors={"unanswered": 64})
    assert better(first, silent) == replace(first, errors={"503": 1, "unanswered": 64})


def test_later_rounds_take_only_what_goals_are_made_of() -> None:
    fast = [server.name for server in SERVERS if not server.slow]
    first, second = round_of_fast(0, fast), round_of_fast(1, fast)
    assert set(first) == {cell for server in SERVERS if not server.slow for cell in cells_of(server)}
    needed = {cell for goal in GOALS for cell in (goal.ours, goal.theirs)}
    assert set(second) == {cell for cell in needed if not BY_NAME[cell.server].slow}
    assert round_of_fast(1, []) == []
    # Servers take turns: what is compared follows each other.
    kinds = [(cell.kind, cell.clients) for cell in first]
    assert len([1 for one, other in pairwise(kinds) if one != other]) == len(set(kinds)) - 1


def test_all_cells_fit_into_a_quarter_of_an_hour() -> None:
    assert planned_seconds(Plan().seconds, Plan().warm_up) < 780
    assert Plan().rounds == ROUNDS


def test_every_goal_has_a_range_and_can_be_measured() -> None:
    ranges = load_ranges()
    for goal in GOALS:
        assert (f"serving.{goal.key}" in ranges) == bool(goal.budget), goal.key
        for cell in (goal.ours, goal.theirs):
            assert cell in cells_of(BY_NAME[cell.server])


def everything() -> Results:
    """All cells alike, but for ours, which are three times as fast."""
    results = Results(loops={"float32": 500.0})
    for server in SERVERS:
        results.add_start(server.name, 0.4)
        results.add_start(server.name, 0.6)
        results.add_memory(server.name, (90.0, 80.0))
        results.add_memory(server.name, (95.0, 70.0))
        for cell in cells_of(server):
            results.add_cell(cell, taken(answers=600 if server.name == LEPTON else 200))
    return results


def test_goals_become_ratios() -> None:
    found = {figure.key: figure.value for figure in figures(everything())}
    assert found["serving.json-8-kserve-keras"] == pytest.approx(3)
    assert found["serving.binary-64-bare"] == pytest.approx(3)
    assert found["serving.binary-64-int8"] == pytest.approx(1 / 3)
    assert found["serving.p99-64-bare"] == 1
    assert found["serving.loop-float32"] == pytest.approx(0.6)
    assert (found["serving.start"], found["serving.memory"]) == (0.4, 95)
    assert found["serving.untold"] == 0
    named = " ".join(outside(figures(everything()), load_ranges()))
    assert "serving.json-8-kserve-keras is 3 x" in named
    assert "serving.p99-64-bare" not in named


def test_8_bits_have_a_budget_only_where_the_processor_has_dot_products_of_them() -> None:
    assert has_dot_products("flags\t\t: fpu avx512f avx512_vnni sse")
    assert not has_dot_products("flags\t\t: fpu avx avx2 sse")
    results = everything()
    results.dot_products = False
    found = {figure.key: figure for figure in figures(results)}
    assert "serving.binary-64-int8" not in found
    assert found["serving.binary-64-int8-plain"].budget == ""
    assert "no dot products" in found["serving.binary-64-int8-plain"].what
    assert "no dot products" in markdown(results)


def test_a_goal_that_could_not_be_measured_is_not_forgotten() -> None:
    results = everything()
    del results.cells[Cell("kserve-onnx", "json", 8)]
    results.cells[Cell("bare", "binary", 1)] = taken(answers=0)
    found = {figure.key: figure.value for figure in figures(results)}
    assert "serving.json-8-kserve-onnx" not in found
    assert found["serving.untold"] == 2
    nothing = {figure.key: figure.value for figure in figures(Results())}
    assert nothing == {"serving.untold": len([goal for goal in GOALS if goal.budget]) + 2}


def test_the_table_tells_failures_and_errors() -> None:
    results = everything()
    results.cells[Cell("fastapi-keras", "json", 64)] = taken(
        errors={"503": 7, "unanswered": 2}, client_cpu=0.95
    )
    results.failures["mosec"] = "it can't be installed: no wheel"
    results.wrong["bentoml", "json"] = "its answer differs"
    text = markdown(results)
    assert (
        "| Lepton | LiteRT | 300 / 300 / 300 | 4.00 / 4.00 / 4.00 | 9.00 / 9.00 / 9.00 | 1,667 / 1,667 / 1,667 | none |"
        in text
    )
    assert "none / none / 7 x 503, 2 x unanswered" in text
    assert "| mosec | model.predict | not measured, see below | | | | |" in text
    assert "| BentoML | model.predict | wrong answers, see below | | | | |" in text
    assert "- mosec with model.predict was not measured: it can't be installed: no wheel" in text
    assert "the load took 95% of its core" in text
    assert "float32: 500 inputs a second" in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.count("|") in (6, 8)


def test_errors_are_told_in_words() -> None:
    assert errors_in_words({}) == "none"
    assert errors_in_words({"503": 12, "closed": 3}) == "12 x 503, 3 x closed"


def test_the_chart_is_a_picture_with_the_fastest_first() -> None:
    root = ElementTree.fromstring(svg(everything()))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "JSON tensor, 8 clients: requests a second on one core"
    assert texts[1:3] == ["Lepton, LiteRT", "300"]
    widths = [float(element.get("width", "0")) for element in root.iter("{http://www.w3.org/2000/svg}rect")][
        1:
    ]
    assert widths[0] == max(widths)
    assert "KServe, model.predict" in texts
    assert svg(Results()).startswith("<svg")
