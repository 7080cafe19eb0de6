"""The gRPC server's start, limits, deadlines, security and drain."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as v2
from tritonclient.grpc import service_pb2_grpc

from lepton_workloads.serve import security
from lepton_workloads.serve.model import Prediction
from lepton_workloads.serve.rpc import calls as grpc_calls
from lepton_workloads.serve.rpc import server as grpc_server
from lepton_workloads.serve.rpc.protos.health_pb2 import HealthCheckRequest, HealthCheckResponse
from tests.unit.serving.forwarder import Forwarder
from tests.unit.serving.secrets import Secret, certificate
from tests.unit.serving.support import (
    DEADLINE_SECONDS,
    SHAPE,
    TASK,
    FakeEngine,
    InProcess,
    Process,
    until,
    write_artifact,
)

GRPC = TASK.model_copy(update={"grpc": True, "drain_seconds": 1})
TOKEN = "a-long-random-token-of-a-team"
ONE = v2.ModelInferRequest(
    model_name="digits",
    inputs=[v2.ModelInferRequest.InferInputTensor(name="pixels", datatype="FP32", shape=[1, *SHAPE])],
    raw_input_contents=[np.zeros(SHAPE, np.float32).tobytes()],
)
INFER = "/inference.GRPCInferenceService/ModelInfer"


class Stub:
    """Calls over one channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.v2 = service_pb2_grpc.GRPCInferenceServiceStub(channel)

    def infer(self, **options: Any) -> v2.ModelInferResponse:
        return self.v2.ModelInfer(ONE, **{"timeout": DEADLINE_SECONDS, **options})

    def health(self, service: str = "", **options: Any) -> int:
        check = self.channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        answer: HealthCheckResponse = check(
            HealthCheckRequest(service=service), timeout=DEADLINE_SECONDS, **options
        )
        return answer.status

    def raw(self, data: bytes) -> Any:
        return self.channel.unary_unary(INFER)(data, timeout=DEADLINE_SECONDS)


@contextmanager
def connected(port: int, credentials: grpc.ChannelCredentials | None = None) -> Iterator[Stub]:
    address = f"localhost:{port}"
    channel = grpc.secure_channel(address, credentials) if credentials else grpc.insecure_channel(address)
    with channel:
        yield Stub(channel)


def refused(call: Callable[[], Any]) -> tuple[str, str]:
    """Code and details of the error."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code().name, raised.value.details()


class Counting(FakeEngine):
    """Answers at once, or once the gate is open, and counts the inputs that were run."""

    def __init__(self, gated: bool = False) -> None:
        super().__init__()
        self.ran = 0
        if not gated:
            self.gate.set()

    def predict(self, batch: np.ndarray) -> np.ndarray:
        answer = super().predict(batch)
        self.ran += len(batch)
        return answer


class GrpcInProcess(InProcess):
    """A server whose engine, tokens or certificate a test controls."""

    def __init__(self, engine: FakeEngine, **fields: Any) -> None:
        self.engine = engine
        super().__init__(lambda: engine, GRPC.model_copy(update=fields))
        door: Any = self.server.grpc
        self.grpc_port = until(lambda: door.port, "the port")

    def queued(self) -> float:
        return self.metric("lepton_server_queue_depth")


@contextmanager
def serving(engine: FakeEngine | None = None, **fields: Any) -> Iterator[GrpcInProcess]:
    server = GrpcInProcess(engine or Counting(), **fields)
    try:
        until(lambda: server.model.loaded, "the model")
        yield server
    finally:
        server.engine.gate.set()
        server.stop()


def test_without_the_task_grpc_nobody_listens(served: Process) -> None:
    assert served.grpc_port == 0


def test_ready_only_once_the_model_answers() -> None:
    gate = threading.Event()
    engine = Counting()

    def load() -> FakeEngine:
        assert gate.wait(DEADLINE_SECONDS)
        return engine

    server = InProcess(load, GRPC)
    door: Any = server.server.grpc
    with connected(until(lambda: door.port, "the port")) as stub:
        options = {"timeout": DEADLINE_SECONDS, "wait_for_ready": True}
        assert stub.v2.ServerLive(v2.ServerLiveRequest(), **options).live
        assert not stub.v2.ServerReady(v2.ServerReadyRequest()).ready
        assert not stub.v2.ModelReady(v2.ModelReadyRequest(name="digits")).ready
        assert stub.health() == HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as raised:
            stub.infer()
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
        assert raised.value.details() == "the model is loading"
        assert ("grpc-retry-pushback-ms", "1000") in raised.value.trailing_metadata()
        gate.set()
        until(lambda: stub.v2.ServerReady(v2.ServerReadyRequest()).ready, "the model")
        assert stub.v2.ModelReady(v2.ModelReadyRequest(name="digits")).ready
        assert stub.infer().model_name == "digits"
    server.stop()


def test_health_is_told_for_each_service(grpc_served: Process) -> None:
    with connected(grpc_served.grpc_port) as stub:
        for service in (
            "",
            "grpc.health.v1.Health",
            "inference.GRPCInferenceService",
            "tensorflow.serving.PredictionService",
            "tensorflow.serving.ModelService",
        ):
            assert stub.health(service) == HealthCheckResponse.SERVING
        assert refused(lambda: stub.health("other"))[0] == "NOT_FOUND"


def test_a_port_that_is_taken_ends_the_process_with_a_reason(grpc_served: Process, root: Path) -> None:
    task = TASK.model_copy(update={"grpc": True}).to_json()
    server = Process(root, LEPTON_TASK=task, LEPTON_GRPC_PORT=str(grpc_served.grpc_port))
    code, outcome = server.outcome()
    assert code != 0
    assert f"can't listen for gRPC at [::]:{grpc_served.grpc_port}" in outcome["message"]


def test_a_model_that_cannot_be_used_ends_the_process_with_a_reason(root: Path) -> None:
    (root / "lepton" / "model" / "model.tflite").write_bytes(b"no model at all")
    code, outcome = Process(root, LEPTON_TASK=GRPC.to_json()).outcome()
    assert code != 0
    assert "model.tflite can't be used" in outcome["message"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xff\xff\xff\xff", "the message is no inference.ModelInferRequest"),
        (ONE.SerializeToString()[:-1], "the message is no inference.ModelInferRequest"),
        (b"\x0a\x02\xff\xff", "the message is no inference.ModelInferRequest"),  # model_name, not UTF-8
        (b"", "there is no model ''"),
        (ONE.SerializeToString() + b"\xfa\x3f\x04more", ""),  # an unknown field
    ],
)
def test_bytes_that_are_no_message_are_refused(grpc_served: Process, data: bytes, text: str) -> None:
    with connected(grpc_served.grpc_port) as stub:
        if text:
            code, details = refused(lambda: stub.raw(data))
            assert code in ("INVALID_ARGUMENT", "NOT_FOUND")
            assert text in details
        else:
            assert stub.raw(data)
        assert stub.infer().model_name == "digits"


def test_a_call_without_a_message_is_refused(grpc_served: Process) -> None:
    with connected(grpc_served.grpc_port) as stub:
        call = stub.channel.stream_unary(INFER)
        code, details = refused(lambda: call(iter(())))
        assert code == "INVALID_ARGUMENT"
        assert details == f"the call holds no message of at most {TASK.max_request_bytes} bytes"


def test_a_message_above_the_limit_is_refused(grpc_served: Process) -> None:
    with connected(grpc_served.grpc_port) as stub:
        code, details = refused(lambda: stub.raw(bytes(TASK.max_request_bytes + 1)))
        assert code == "RESOURCE_EXHAUSTED"
        assert str(TASK.max_request_bytes) in details
        assert stub.infer().model_name == "digits"


def test_a_compressed_message_is_refused(grpc_served: Process) -> None:
    with connected(grpc_served.grpc_port) as stub:
        code, _ = refused(lambda: stub.infer(compression=grpc.Compression.Gzip))
        assert code == "UNIMPLEMENTED"
        assert stub.infer().model_name == "digits"


def test_calls_above_the_bound_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_server, "MAX_CALLS", 2)
    with serving(Counting(gated=True)) as server, connected(server.grpc_port) as stub:
        waiting = [stub.v2.ModelInfer.future(ONE) for _ in range(2)]
        until(lambda: server.metric("lepton_server_grpc_in_flight_calls") == 2, "both calls")
        assert refused(stub.infer)[0] == "RESOURCE_EXHAUSTED"
        server.engine.gate.set()
        assert [call.result(DEADLINE_SECONDS).model_name for call in waiting] == ["digits"] * 2
        assert stub.infer().model_name == "digits"


def test_large_messages_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_calls, "MESSAGE_BUDGET", 0)  # what one message may have is the least
    large = v2.ModelInferRequest(
        model_name="digits",
        inputs=[v2.ModelInferRequest.InferInputTensor(name="pixels", datatype="FP32", shape=[250, *SHAPE])],
        raw_input_contents=[np.zeros((250, *SHAPE), np.float32).tobytes()],
    )
    assert 1.5 * large.ByteSize() > GRPC.max_request_bytes > large.ByteSize()
    with serving(Counting(gated=True)) as server, connected(server.grpc_port) as stub:
        first = stub.v2.ModelInfer.future(large)
        assert server.engine.entered.wait(DEADLINE_SECONDS)
        code, details = refused(lambda: stub.v2.ModelInfer(large, timeout=DEADLINE_SECONDS))
        assert (code, details) == ("UNAVAILABLE", "too many large requests are being worked on")
        server.engine.gate.set()
        assert first.result(DEADLINE_SECONDS).model_name == "digits"
        until(lambda: server.metric("lepton_server_grpc_message_bytes") == 0, "the bytes to be given back")
        assert stub.v2.ModelInfer(large).outputs[0].shape == [250, 4]


def test_a_client_that_sends_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_calls, "BODY_SECONDS", 0.2)
    ended = threading.Event()

    def nothing() -> Iterator[bytes]:
        ended.wait(DEADLINE_SECONDS)
        yield from ()

    with serving() as server, connected(server.grpc_port) as stub:
        call = stub.channel.stream_unary(INFER)
        code, details = refused(lambda: call(nothing(), timeout=DEADLINE_SECONDS))
        ended.set()
        assert (code, details) == ("DEADLINE_EXCEEDED", "the message was not whole after 0.2 seconds")
        assert stub.infer().model_name == "digits"


def test_what_is_no_grpc_leaves_nothing_in_the_log(root: Path) -> None:
    Secret(root / "lepton" / "tls", certificate(root / "first"))
    task = GRPC.model_copy(update={"tls": True})
    server = Process(root, LEPTON_TASK=task.to_json())
    port = until(lambda: server.lines("Ready"), "the server")[0]["grpc_port"]
    before = server.log.read_text()
    for data in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01nonsense" * 9,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" * 9,
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS) as connection:
            connection.sendall(data)
            with suppress(ConnectionError):
                while connection.recv(1000):
                    pass  # until the server has closed it
    assert server.log.read_text() == before
    server.kill()


def test_damaged_messages_are_the_clients_fault(grpc_served: Process) -> None:
    random = np.random.default_rng(11)
    good = ONE.SerializeToString()
    codes = set()
    with connected(grpc_served.grpc_port) as stub:
        for _ in range(400):
            data = bytearray(good[: random.integers(1, len(good) + 1)] if random.random() < 0.3 else good)
            for _ in range(random.integers(1, 5)):
                place = (
                    random.integers(min(60, len(data)))
                    if random.random() < 0.8
                    else random.integers(len(data))
                )
                data[place] = random.integers(256)
            try:
                stub.raw(bytes(data))
            except grpc.RpcError as error:
                codes.add(error.code().name)
        assert codes <= {"INVALID_ARGUMENT", "NOT_FOUND"}
        assert stub.infer().model_name == "digits"


def test_a_cancelled_call_is_not_run() -> None:
    engine = Counting(gated=True)
    with serving(engine) as server, connected(server.grpc_port) as stub:
        first = stub.v2.ModelInfer.future(ONE)
        assert engine.entered.wait(DEADLINE_SECONDS)
        second = stub.v2.ModelInfer.future(ONE)
        until(lambda: server.queued() == 1, "the second call")
        second.cancel()
        cancelled = 'lepton_server_requests_total{code="CANCELLED",route="grpc/ModelInfer"}'
        until(lambda: server.metric(cancelled) == 1, "the cancelled call")
        engine.gate.set()
        assert first.result(DEADLINE_SECONDS).model_name == "digits"
        stub.infer()
        assert engine.ran == 2


def test_the_clients_deadline_is_that_of_the_engine_too() -> None:
    engine = Counting(gated=True)
    with serving(engine) as server, connected(server.grpc_port) as stub:
        first = stub.v2.ModelInfer.future(ONE)
        assert engine.entered.wait(DEADLINE_SECONDS)
        assert refused(lambda: stub.infer(timeout=0.3))[0] == "DEADLINE_EXCEEDED"
        engine.gate.set()
        assert first.result(DEADLINE_SECONDS).model_name == "digits"
        stub.infer()
        assert engine.ran == 2


def test_a_call_that_waits_for_longer_than_the_server_allows_is_given_up() -> None:
    engine = Counting(gated=True)
    with serving(engine, timeout_seconds=0.2) as server, connected(server.grpc_port) as stub:
        first = stub.v2.ModelInfer.future(ONE)
        assert engine.entered.wait(DEADLINE_SECONDS)
        second = stub.v2.ModelInfer.future(ONE)
        until(lambda: server.queued() == 1, "the second call")
        threading.Timer(0.3, engine.gate.set).start()
        code, details = refused(lambda: second.result(DEADLINE_SECONDS))
        assert code == "DEADLINE_EXCEEDED"
        assert "did not come to this request in time" in details
        assert first.result(DEADLINE_SECONDS).model_name == "digits"


def test_who_asks_is_told_to_all_that_look_at_predictions() -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    seen: list[Prediction] = []
    with serving() as server, connected(server.grpc_port) as stub:
        server.model.watch(seen.append)
        metadata = [("lepton-source", "door"), ("x-request-id", "seven"), ("traceparent", trace)]
        stub.infer(metadata=metadata)
        named = v2.ModelInferRequest()
        named.CopyFrom(ONE)
        named.id = "eight"
        named.parameters["source"].string_param = "gate"
        stub.v2.ModelInfer(named, metadata=metadata)
        callers = [(one.caller.source, one.caller.request_id, one.caller.traceparent) for one in seen]
        assert callers == [("door", "seven", trace), ("gate", "eight", trace)]
        code, details = refused(lambda: stub.infer(metadata=[("lepton-source", "x" * 129)]))
        assert code == "INVALID_ARGUMENT"
        assert "lepton-source" in details


def test_a_failed_call_is_logged(grpc_served: Process) -> None:
    with connected(grpc_served.grpc_port) as stub:
        name = "a-model-for-the-log"
        refused(lambda: stub.v2.ModelReady(v2.ModelReadyRequest(name=name)))
    lines = until(
        lambda: [
            line for line in grpc_served.lines("Answered request") if name in str(line.get("error", ""))
        ],
        "the line",
    )
    assert lines[0]["path"] == "/inference.GRPCInferenceService/ModelReady"
    assert (lines[0]["route"], lines[0]["status"]) == ("grpc/ModelReady", "NOT_FOUND")


def test_an_engine_that_fails_is_an_internal_error() -> None:
    def fail(_: np.ndarray) -> np.ndarray:
        raise RuntimeError("secret details")

    with serving(FakeEngine(fail)) as server, connected(server.grpc_port) as stub:
        assert refused(stub.infer) == ("INTERNAL", "internal error, see the server's log")


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(security, "CHECK_SECONDS", 0.0)
    monkeypatch.setenv("LEPTON_ROOT", str(tmp_path))
    return tmp_path / "lepton"


def test_only_a_token_opens_the_server(secrets: Path) -> None:
    tokens = Secret(secrets / "tokens", {"team": TOKEN.encode()})
    with serving(tokens=True) as server, connected(server.grpc_port) as stub:
        right = [("authorization", f"Bearer {TOKEN}")]
        assert stub.infer(metadata=right).model_name == "digits"
        for metadata in ([], [("authorization", "Bearer another-token")], [("authorization", TOKEN)]):
            code, details = refused(lambda metadata=metadata: stub.infer(metadata=metadata))
            assert code == "UNAUTHENTICATED"
            assert "authorization" in details
        assert refused(lambda: stub.v2.ModelMetadata(v2.ModelMetadataRequest()))[0] == "UNAUTHENTICATED"
        assert stub.health() == HealthCheckResponse.SERVING
        assert stub.v2.ServerReady(v2.ServerReadyRequest()).ready
        tokens.change({"team": b"the-token-of-tomorrow-is-another"})
        assert refused(lambda: stub.infer(metadata=right))[0] == "UNAUTHENTICATED"


def test_a_renewed_certificate_is_taken_without_a_restart(secrets: Path, tmp_path: Path) -> None:
    first = certificate(tmp_path / "first")
    tls = Secret(secrets / "tls", first)
    with serving(tls=True, drain_seconds=10) as server:
        with connected(server.grpc_port, grpc.ssl_channel_credentials(first["tls.crt"])) as old:
            assert old.infer().model_name == "digits"
            renewed = certificate(tmp_path / "second")
            tls.change(renewed)
            with connected(server.grpc_port, grpc.ssl_channel_credentials(renewed["tls.crt"])) as new:
                assert new.infer().model_name == "digits"
            tls.change({"tls.crt": b"nonsense", "tls.key": b"nonsense"})
            with connected(server.grpc_port, grpc.ssl_channel_credentials(renewed["tls.crt"])) as new:
                assert new.infer().model_name == "digits"
        with connected(server.grpc_port, grpc.ssl_channel_credentials(first["tls.crt"])) as stranger:
            assert refused(stranger.infer)[0] == "UNAVAILABLE"
        with connected(server.grpc_port) as plain:
            assert refused(plain.infer)[0] == "UNAVAILABLE"


def test_a_drain_finishes_what_is_in_flight_and_then_ends() -> None:
    engine = Counting(gated=True)
    with serving(engine, drain_seconds=20) as server, connected(server.grpc_port) as stub:
        calls = [stub.v2.ModelInfer.future(ONE) for _ in range(5)]
        assert engine.entered.wait(DEADLINE_SECONDS)
        until(lambda: server.queued() == 4, "all calls")
        server.model.draining = True
        assert stub.health() == HealthCheckResponse.NOT_SERVING
        server.server.stop()
        engine.gate.set()
        assert [call.result(DEADLINE_SECONDS).model_name for call in calls] == ["digits"] * 5


def test_a_second_signal_ends_the_waiting(root: Path) -> None:
    task = GRPC.model_copy(update={"drain_seconds": 600})
    server = Process(root, LEPTON_TASK=task.to_json()).wait_ready()
    server.process.send_signal(signal.SIGTERM)
    until(lambda: server.lines("Began to drain"), "the drain")
    server.process.send_signal(signal.SIGTERM)
    assert server.outcome()[0] == 0


def test_no_call_is_lost_when_a_pod_goes(root: Path, tmp_path: Path) -> None:
    """Clients that never look away, behind a Service whose endpoint changes with the signal."""
    task = GRPC.model_copy(update={"drain_seconds": 4}).to_json()
    other = tmp_path / "other"
    write_artifact(other / "lepton" / "model")
    old, new = (Process(place, LEPTON_TASK=task) for place in (root, other))
    old.wait_ready()
    new.wait_ready()
    ended = threading.Event()

    def ask(stub: Stub) -> list[str]:
        errors = []
        while not ended.is_set():
            try:
                stub.infer()
            except grpc.RpcError as error:
                errors.append(f"{error.code().name}: {error.details()}")
        return errors

    asked = 'lepton_server_requests_total{code="OK",route="grpc/ModelInfer"}'
    with Forwarder(old.grpc_port) as service, connected(service.port) as stub, ThreadPoolExecutor() as pool:
        asking = [pool.submit(ask, stub) for _ in range(4)]
        try:
            until(lambda: old.metric(asked) > 20, "calls to the old pod")
            old.process.send_signal(signal.SIGTERM)
            until(lambda: old.lines("Began to drain"), "the drain")
            service.target = new.grpc_port
            assert old.outcome()[0] == 0
            before = new.metric(asked)
            until(lambda: new.metric(asked) > before + 20, "calls to the new pod")
        finally:
            ended.set()
        assert [error for one in asking for error in one.result()] == []
    new.kill()
