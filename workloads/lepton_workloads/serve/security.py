"""Who may ask, and over which wire: bearer tokens and the TLS certificate, both from mounted Secrets.

The kubelet changes a mounted Secret by swapping the symbolic link `..data`, so one `stat` tells whether
there is something new: it is taken without a restart, and what can't be used never replaces what works.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lepton_workloads.contract.outcome import Failure
from lepton_workloads.logs import Log
from lepton_workloads.serve.http import HttpError
from lepton_workloads.termination import WorkloadError

if TYPE_CHECKING:
    import ssl

CHECK_SECONDS = 2.0
"""A changed Secret is seen after this time at the latest; the kubelet itself takes up to a minute."""
MAX_TOKENS = 256
"""Each is compared with every request's."""
MAX_TOKEN_BYTES = 4096
WEAK_TOKEN_BYTES = 16
CERTIFICATE, KEY = "tls.crt", "tls.key"

log = Log(__name__)


class Tokens:
    """The bearer tokens of a folder; every file that is not hidden holds one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stamp: object = None
        self._next_check = 0.0
        self._digests: tuple[bytes, ...] = ()
        self._take_changes()

    def allows(self, authorization: str) -> bool:
        """Whether this value of the header `Authorization` holds one of the tokens.

        Takes the same time whichever token it is and however much of it is right: digests are compared, in
        constant time, with all that there are.
        """
        if time.monotonic() >= self._next_check:
            self._take_changes()
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return False
        digest = hashlib.sha256(token.strip().encode("latin-1", "replace")).digest()
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(digest, known)
        return found

    def check(self, authorization: str) -> None:
        """Raises HttpError 401, saying what is missing, unless `allows`."""
        if self.allows(authorization):
            return
        if not authorization:
            message = "a token is needed: send the header Authorization: Bearer TOKEN"
            raise HttpError(401, message, [(b"www-authenticate", b"Bearer")])
        message = "the header Authorization holds no token of this server: send Authorization: Bearer TOKEN"
        raise HttpError(401, message, [(b"www-authenticate", b'Bearer error="invalid_token"')])

    def _take_changes(self) -> None:
        self._next_check = time.monotonic() + CHECK_SECONDS
        try:
            stamp = _stamp(self._folder)
            if stamp == self._stamp:
                return
            self._digests = tuple({hashlib.sha256(token).digest() for token in self._read()})
            self._stamp = stamp
        except OSError as error:  # what was known holds until the next look
            log.error("Failed to read the tokens", error=error, folder=self._folder)
            return
        log.info("Read the tokens", count=len(self._digests))
        if not self._digests:
            log.warning("There is no token: nobody can use this server", folder=self._folder)

    def _read(self) -> Iterator[bytes]:
        files = _files(self._folder)
        if len(files) > MAX_TOKENS:
            log.warning("Left tokens out", files=len(files), most=MAX_TOKENS)
        for file in files[:MAX_TOKENS]:
            with file.open("rb") as opened:
                token = opened.read(MAX_TOKEN_BYTES + 1).strip()
            if not token or len(token) > MAX_TOKEN_BYTES:
                log.warning("Left out a token: it is empty or too long", key=file.name, most=MAX_TOKEN_BYTES)
                continue
            if len(token) < WEAK_TOKEN_BYTES:
                log.warning("A token is short: it can be guessed", key=file.name, bytes=len(token))
            yield token


class Certificates:
    """The certificate of a folder, `tls.crt` and `tls.key`, in one context that renewals are loaded into."""

    def __init__(self, folder: Path) -> None:
        """Loads it.

        Raises:
            WorkloadError: `InvalidSpec`, terminal: the files are missing or broken.
        """
        self._folder = folder
        self._next_check = time.monotonic() + CHECK_SECONDS
        try:
            self._stamp = _stamp(folder)
            self.context = self._new_context()
        except (OSError, ValueError) as error:
            message = f"the Secret of spec.tls can't be used: {_sentence(error)}"
            raise WorkloadError(Failure.INVALID_SPEC, message, terminal=True) from error

    def certificates(self) -> tuple[bytes, bytes]:
        """Private key and certificate chain as they are on disk now, PEM.

        Raises:
            OSError: they can't be read.
        """
        folder = _real(self._folder)
        return (folder / KEY).read_bytes(), (folder / CERTIFICATE).read_bytes()

    def take_changes(self) -> None:
        """Takes a renewed certificate for new connections; cheap, may be called every second."""
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + CHECK_SECONDS
        try:
            stamp = _stamp(self._folder)
            if stamp == self._stamp:
                return
            self._new_context()  # a trial: a failure would leave the one in use without a key
            _load(self.context, _real(self._folder))
            self._stamp = stamp
        except (OSError, ValueError) as error:
            log.error("Failed to take the renewed certificate", reason=_sentence(error))
            return
        log.info("Took the renewed certificate")

    def _new_context(self) -> ssl.SSLContext:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.set_alpn_protocols(["http/1.1"])
        _load(context, _real(self._folder))
        return context


def _load(context: ssl.SSLContext, folder: Path) -> None:
    for name in (CERTIFICATE, KEY):
        if not (folder / name).is_file():
            raise ValueError(f"{name} is missing; it must be of type kubernetes.io/tls")
    # Without a password OpenSSL would ask for one on the terminal.
    context.load_cert_chain(folder / CERTIFICATE, folder / KEY, password=_no_password)


def _no_password() -> str:
    raise ValueError(f"{KEY} is encrypted: a key without a password is needed")


def _sentence(error: Exception) -> str:
    """What is wrong, where OpenSSL says `[SSL] PEM lib (_ssl.c:3900)` for anything that is no PEM."""
    import ssl

    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"{KEY} is not the key of {CERTIFICATE}"
        return f"{CERTIFICATE} or {KEY} is no certificate or key in PEM form ({error})"
    return str(error)


def _real(folder: Path) -> Path:
    """Where the files of a mounted Secret are: one folder for all of one version."""
    data = folder / "..data"
    return data.resolve(strict=True) if data.exists() else folder


def _stamp(folder: Path) -> object:
    """Differs when the folder's files do; one `stat` for a mounted Secret."""
    try:
        data = os.stat(folder / "..data")
    except FileNotFoundError:  # a plain folder
        stats = [(file.name, file.stat()) for file in _files(folder)]
        return [(name, stat.st_ino, stat.st_mtime_ns, stat.st_size) for name, stat in stats]
    return data.st_ino, data.st_mtime_ns


def _files(folder: Path) -> list[Path]:
    real = _real(folder)
    return sorted(file for file in real.iterdir() if not file.name.startswith(".") and file.is_file())
