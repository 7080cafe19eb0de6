"""Tokens and TLS: who gets in, and that changed Secrets are taken without a restart."""

import http.client
import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lepton_workloads.contract.outcome import EXIT_TERMINAL
from lepton_workloads.serve import security
from lepton_workloads.serve import server as server_room
from lepton_workloads.serve.security import MAX_TOKEN_BYTES, Certificates, Tokens
from lepton_workloads.termination import WorkloadError
from tests.unit.serving.secrets import Secret, certificate
from tests.unit.serving.support import (
    DEADLINE_SECONDS,
    SHAPE,
    TASK,
    FakeEngine,
    InProcess,
    Process,
    picture,
    until,
)

PREDICT = "/v1/models/digits:predict"
ONE = json.dumps({"instances": [np.zeros(SHAPE).tolist()]}).encode()
TOKEN = "a-long-random-token-of-a-team"


@pytest.fixture(autouse=True)
def _look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "CHECK_SECONDS", 0.0)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def engine() -> FakeEngine:
    return FakeEngine(lambda batch: np.full((len(batch), 4), 0.25, np.float32))


@pytest.fixture
def tokens(tmp_path: Path) -> Secret:
    content = {"team-a": f"  {TOKEN}\n".encode(), "team-b": b"another-long-token-of-another-team"}
    return Secret(tmp_path / "lepton" / "tokens", content)


@pytest.fixture
def guarded(tokens: Secret, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InProcess]:
    monkeypatch.setenv("LEPTON_ROOT", str(tmp_path))
    server = InProcess(engine, TASK.model_copy(update={"tokens": True}))
    until(server.ready, "the server")
    yield server
    server.stop()


def test_every_token_of_the_secret_opens_the_server(guarded: InProcess) -> None:
    for token in (TOKEN, "another-long-token-of-another-team"):
        assert guarded.ask("POST", PREDICT, ONE, bearer(token)).status == 200
        assert guarded.ask("POST", "/classify", picture(), bearer(token)).status == 200
        assert guarded.ask("GET", "/metrics", headers=bearer(token)).status == 200
    assert guarded.ask("POST", PREDICT, ONE, {"authorization": f"bearer   {TOKEN} "}).status == 200


NO_TOKENS = [
    "",
    "Bearer",
    "Bearer ",
    TOKEN,
    f"Basic {TOKEN}",
    f"Bearer {TOKEN}x",
    f"Bearer {TOKEN[:-1]}",
    f"Bearer {TOKEN} {TOKEN}",
    f"Bearer {TOKEN.upper()}",
    "Bearer \xe9",
    "Bearer " + "x" * 10_000,
]


def test_nothing_else_opens_it(guarded: InProcess) -> None:
    infer = "/v2/models/digits/infer"
    for method, path in (
        ("POST", PREDICT),
        ("POST", infer),
        ("POST", "/classify"),
        ("GET", "/metrics"),
        ("GET", "/v2"),
    ):
        for value in NO_TOKENS:
            headers = {"Authorization": value} if value else {}
            answer = guarded.ask(method, path, ONE if method == "POST" else None, headers)
            assert answer.status == 401, (path, value)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert "Authorization: Bearer TOKEN" in answer.error
            assert TOKEN not in answer.error


def test_probes_and_the_page_need_no_token(guarded: InProcess) -> None:
    for path in ("/", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"):
        assert guarded.get(path).status == 200


def test_changed_tokens_are_taken_without_a_restart(guarded: InProcess, tokens: Secret) -> None:
    tokens.change({"team-a": b"the-next-token-of-the-team"})
    assert guarded.ask("GET", "/metrics", headers=bearer("the-next-token-of-the-team")).status == 200
    assert guarded.ask("GET", "/metrics", headers=bearer(TOKEN)).status == 401
    tokens.change({})
    assert guarded.ask("GET", "/metrics", headers=bearer("the-next-token-of-the-team")).status == 401
    assert guarded.get("/healthz").status == 200


def test_a_token_that_is_no_token_opens_nothing(tmp_path: Path) -> None:
    long = b"x" * (MAX_TOKEN_BYTES + 1)
    secret = Secret(
        tmp_path / "tokens", {"empty": b" \n", "long": long, ".hidden": b"hidden", "odd": b"\xff\xfe"}
    )
    tokens = Tokens(secret.folder)
    for token in ("", " ", long.decode(), "hidden", "..data"):
        assert not tokens.allows(f"Bearer {token}")
    assert tokens.allows("Bearer \xff\xfe")


def test_a_folder_without_the_kubelets_links_works_too(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("first-token")
    tokens = Tokens(tmp_path)
    assert tokens.allows("Bearer first-token")
    (tmp_path / "one").write_text("second-token!")
    assert tokens.allows("Bearer second-token!")
    assert not tokens.allows("Bearer first-token")


def test_without_a_folder_nobody_gets_in_until_there_is_one(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "later")
    assert not tokens.allows("Bearer first-token")
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "one").write_text("first-token")
    assert tokens.allows("Bearer first-token")


def test_the_log_tells_of_an_empty_secret(root: Path) -> None:
    Secret(root / "lepton" / "tokens", {})
    task = TASK.model_copy(update={"tokens": True})
    server = Process(root, LEPTON_TASK=task.to_json()).wait_ready()
    assert server.lines("There is no token: nobody can use this server")
    assert server.get("/metrics").status == 401
    server.kill()


class Https(InProcess):
    """A client that trusts one certificate."""

    trusted = b""

    def connect(self) -> http.client.HTTPConnection:
        context = ssl.create_default_context(cadata=self.trusted.decode())
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS, context=context)


@pytest.fixture
def tls(tmp_path: Path) -> Secret:
    return Secret(tmp_path / "lepton" / "tls", certificate(tmp_path / "first"))


@pytest.fixture
def https(tls: Secret, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Https]:
    monkeypatch.setenv("LEPTON_ROOT", str(tmp_path))
    server = Https(engine, TASK.model_copy(update={"tls": True}))
    server.trusted = (tls.folder / "tls.crt").read_bytes()
    until(server.ready, "the server")
    yield server
    server.stop()


def shown(port: int) -> str:
    """The certificate that a new connection is shown."""
    return ssl.get_server_certificate(("127.0.0.1", port))


def test_requests_are_answered_over_tls(https: Https) -> None:
    assert https.predict(ONE).status == 200
    assert https.ask("POST", "/classify", picture(size=(300, 200))).status == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1")
def test_old_tls_is_refused(https: Https) -> None:
    versions = {ssl.TLSVersion.TLSv1_1: False, ssl.TLSVersion.TLSv1_2: True, ssl.TLSVersion.TLSv1_3: True}
    for version, works in versions.items():
        context = ssl.create_default_context(cadata=https.trusted.decode())
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        connection = http.client.HTTPSConnection("127.0.0.1", https.port, context=context)
        if works:
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200
        else:
            with pytest.raises(OSError):  # noqa: PT011  # an alert or a closed connection
                connection.request("GET", "/healthz")
        connection.close()


def test_a_renewed_certificate_is_taken_without_a_restart(https: Https, tls: Secret, tmp_path: Path) -> None:
    old = https.connect()
    old.request("GET", "/healthz")
    assert old.getresponse().read()
    renewed = certificate(tmp_path / "second", "renewed")
    tls.change(renewed)
    until(lambda: shown(https.port).encode() == renewed["tls.crt"], "the renewed certificate")
    https.trusted = renewed["tls.crt"]
    assert https.predict(ONE).status == 200
    old.request("GET", "/healthz")
    assert old.getresponse().status == 200
    old.close()


@pytest.mark.parametrize("broken", ["mismatch", "empty", "missing"])
def test_a_broken_renewal_changes_nothing(
    https: Https, tls: Secret, tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    other = certificate(tmp_path / "second", "renewed")
    first = https.trusted
    changes = {
        "mismatch": {"tls.crt": other["tls.crt"], "tls.key": (tls.folder / "tls.key").read_bytes()},
        "empty": {"tls.crt": b"", "tls.key": b""},
        "missing": {},
    }
    tls.change(changes[broken])
    until(lambda: "Failed to take the renewed certificate" in caplog.text, "the failure")
    assert shown(https.port).encode() == first
    assert https.predict(ONE).status == 200
    tls.change(other)
    until(lambda: shown(https.port).encode() == other["tls.crt"], "the good one")


def test_what_is_no_tls_is_closed_and_who_says_nothing_too(
    tls: Secret, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEPTON_ROOT", str(tmp_path))
    monkeypatch.setattr(server_room, "HANDSHAKE_SECONDS", 0.2)
    server = Https(engine, TASK.model_copy(update={"tls": True}))
    server.trusted = (tls.folder / "tls.crt").read_bytes()
    until(server.ready, "the server")
    for first in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b""):
        with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_SECONDS) as connection:
            connection.sendall(first)
            while connection.recv(1000):
                assert first, "nothing was said"
    assert server.ready()
    server.stop()


def test_grpc_gets_the_newest_files(tls: Secret, tmp_path: Path) -> None:
    certificates = Certificates(tls.folder)
    renewed = certificate(tmp_path / "second")
    tls.change(renewed)
    assert certificates.certificates() == (renewed["tls.key"], renewed["tls.crt"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"tls.crt": None}, "tls.crt is missing"),
        ({"tls.key": None}, "tls.key is missing"),
        ({"tls.crt": b"nonsense"}, "no certificate or key in PEM form"),
        ({"tls.key": b"nonsense"}, "no certificate or key in PEM form"),
        ({"tls.crt": b""}, "no certificate or key in PEM form"),
        ({"tls.key": "other"}, "tls.key is not the key of tls.crt"),
        ({"tls.key": "encrypted"}, "tls.key is encrypted"),
    ],
)
def test_a_broken_secret_is_told_by_name(tmp_path: Path, change: dict[str, object], sentence: str) -> None:
    content = certificate(tmp_path / "first")
    for name, value in change.items():
        if value is None:
            del content[name]
        elif value == "other":
            content[name] = certificate(tmp_path / "second")[name]
        elif value == "encrypted":
            command = ["openssl", "ec", "-aes256", "-passout", "pass:secret"]
            ran = subprocess.run(command, input=content[name], check=True, capture_output=True)
            content[name] = ran.stdout
        else:
            assert isinstance(value, bytes)
            content[name] = value
    with pytest.raises(WorkloadError, match=sentence) as caught:
        Certificates(Secret(tmp_path / "tls", content).folder)
    assert caught.value.terminal


def test_a_server_without_its_certificate_ends_and_says_why(root: Path) -> None:
    server = Process(root, LEPTON_TASK=TASK.model_copy(update={"tls": True}).to_json())
    code, outcome = server.outcome()
    assert code == EXIT_TERMINAL
    assert outcome["reason"] == "InvalidSpec"
    assert "tls" in outcome["message"]
