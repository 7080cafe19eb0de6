"""Downloads one file over http(s): bounded in size and time, tried again when another try may help."""

import hashlib
import http.client
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import IO, Any

from lepton_workloads.contract.outcome import Failure
from lepton_workloads.logs import Log
from lepton_workloads.termination import WorkloadError

TRIES = 5
FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 30.0
TIMEOUT_SECONDS = 30.0
"""To connect, and for each read: a server that is silent for longer is given up."""
CHUNK_BYTES = 256 * 1024
_TRY_AGAIN = (408, 425, 429)
_ADDRESS = re.compile(r"https?://[^/?#\s@]+[^\s]*", re.IGNORECASE)

log = Log(__name__)


class _TemporaryFailure(Exception):
    """Another try may succeed, after `pause` seconds if the server said so."""

    def __init__(self, message: str, pause: float = 0.0) -> None:
        super().__init__(message)
        self.pause = pause


class _Redirects(urllib.request.HTTPRedirectHandler):
    """The library follows to ftp as well, and from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Called for each redirect, with the absolute new address."""
        scheme = urllib.parse.urlsplit(newurl).scheme.lower()
        if scheme != "https" and not (scheme == "http" and req.type == "http"):
            raise _failed(f"redirect to {scheme or 'nothing'} refused", terminal=True)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url: str, target: Path, max_bytes: int, sleep: Callable[[float], None] = time.sleep) -> str:
    """Writes the file at `url` to `target`, replacing it; returns the sha256 (hex) of its bytes.

    Raises:
        WorkloadError: `DownloadFailed`; terminal for a wrong address, a refusal (4xx) and a file that is too
            large; not for 404, 5xx and broken connections, which are tried again a few times first (404 not).
    """
    if not _ADDRESS.fullmatch(url):
        raise _failed("the address must be http://host/path or https://host/path", terminal=True)
    pause = FIRST_PAUSE_SECONDS
    for tried in range(1, TRIES + 1):
        try:
            return _download_once(url, target, max_bytes)
        except _TemporaryFailure as failure:
            if tried == TRIES:
                raise _failed(f"{failure} ({TRIES} tries)", terminal=False) from failure
            wait = min(max(pause, failure.pause), MAX_PAUSE_SECONDS)
            log.warning("Failed to download, trying again", cause=str(failure), tried=tried, wait=wait)
            sleep(wait)
            pause *= 2
    raise AssertionError("unreachable")


def _download_once(url: str, target: Path, max_bytes: int) -> str:
    # No handlers for file:, ftp: and data:, which build_opener would add.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(url, headers={"User-Agent": "lepton", "Accept-Encoding": "identity"})
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
            return _receive(response, target, max_bytes)
    except urllib.error.HTTPError as error:
        raise _refused(error.code, error.headers) from error
    except urllib.error.URLError as error:
        raise _TemporaryFailure(f"no connection to {_host(url)}: {error.reason}") from error
    except (http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
        cause = str(error) or type(error).__name__
        raise _TemporaryFailure(f"the connection to {_host(url)} broke: {cause}") from error
    except ValueError as error:
        raise _failed(f"the address can't be used: {error}", terminal=True) from error


def _receive(response: Any, target: Path, max_bytes: int) -> str:
    length = response.headers.get("Content-Length") or ""
    announced = int(length) if length.isascii() and length.isdigit() else 0
    if announced > max_bytes:
        raise _failed(f"the file has {announced} bytes, at most {max_bytes} are accepted", terminal=True)
    digest = hashlib.sha256()
    size = 0
    with target.open("wb") as file:
        while chunk := response.read(CHUNK_BYTES):
            size += len(chunk)
            if size > max_bytes:
                raise _failed(f"the file has more than the {max_bytes} bytes accepted", terminal=True)
            digest.update(chunk)
            file.write(chunk)
    if size < announced:
        raise _TemporaryFailure(f"the connection broke after {size} of {announced} bytes")
    return digest.hexdigest()


def _refused(status: int, headers: Message) -> Exception:
    message = f"the server answered {status} {http.client.responses.get(status, '')}".rstrip()
    if status >= 500 or status in _TRY_AGAIN:
        after = headers.get("Retry-After", "") or ""
        return _TemporaryFailure(message, float(after) if after.isascii() and after.isdigit() else 0.0)
    if status < 400:
        message += ", a redirect that is not followed"
    return _failed(message, terminal=status != 404)


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).hostname or "the server"


def _failed(message: str, *, terminal: bool) -> WorkloadError:
    return WorkloadError(Failure.DOWNLOAD_FAILED, message, terminal=terminal)
