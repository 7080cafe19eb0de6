"""One attempt to hand an event over: an HTTP POST with one limit for all of it, without redirects.

The standard library's client, in a thread of each sink: it is loaded with the HTTP server anyway and so costs neither
memory nor time to start (aiohttp, measured here: 8 MiB and half a second), and nothing of it runs on the event loop
where requests are answered. Proxies of the environment are not used.
"""

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from lepton_workloads.serve.alarms.cloud_events import Event

AGAIN = (408, 425, 429)
"""Codes below 500 after which another attempt makes sense."""
SHOWN_BYTES = 300
"""Of a refusal's body, for the log."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an attempt failed."""

    message: str
    final: bool = False
    """Another attempt would end the same way."""
    after: float | None = None
    """Seconds after which the sink wants to be asked again."""


Post = Callable[[Event, float], Refusal | None]
"""One attempt within so many seconds; None when the event was taken."""


def origin(url: str) -> str:
    """Scheme, host and port of an address, for the log: paths and queries of sinks often hold a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def poster(url: str) -> Post:
    """What sends events to an address.

    Raises:
        ValueError: no address of this form can be called; the sentence says why.
    """
    parts = urlsplit(url)
    host, secure = parts.hostname, parts.scheme == "https"
    port = parts.port or (
        443 if secure else 80
    )  # said always: the client would look for it in an IPv6 address
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("it must be http://HOST/PATH or https://HOST/PATH")
    target = parts.path or "/"
    if parts.query:
        target += f"?{parts.query}"
    if not target.isascii() or not target.isprintable() or " " in target:
        raise ValueError("path and query must be percent-encoded")
    context = ssl.create_default_context() if secure else None

    def post(event: Event, seconds: float) -> Refusal | None:
        connection: http.client.HTTPConnection
        if context:
            connection = http.client.HTTPSConnection(host, port, timeout=seconds, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=seconds)
        return _exchange(connection, target, event, seconds)

    return post


def _exchange(
    connection: http.client.HTTPConnection, target: str, event: Event, seconds: float
) -> Refusal | None:
    """Socket time-outs are for each read: a sink that sends a byte now and then is cut off by a timer."""
    started = time.monotonic()
    cut = threading.Timer(seconds, _cut, [connection])
    cut.daemon = True
    cut.start()
    try:
        connection.request("POST", target, event.body, {**event.headers, "connection": "close"})
        return _refusal(connection.getresponse())
    except (OSError, http.client.HTTPException) as error:
        if time.monotonic() - started >= seconds:
            return Refusal(f"no answer within {seconds:g} s")
        return Refusal(f"{type(error).__name__}: {error}"[:SHOWN_BYTES])
    except ValueError as error:  # such as a host name that can't be encoded
        return Refusal(f"it can't be called: {error}"[:SHOWN_BYTES], final=True)
    finally:
        cut.cancel()
        connection.close()


def _cut(connection: http.client.HTTPConnection) -> None:
    opened = connection.sock
    if opened is not None:
        with contextlib.suppress(OSError):  # closed this very moment
            socket.socket.shutdown(opened, socket.SHUT_RDWR)


def _refusal(answer: http.client.HTTPResponse) -> Refusal | None:
    status = answer.status
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return Refusal(
            f"HTTP {status}: redirects are not followed, set sink.url to the final address", final=True
        )
    text = b""
    with contextlib.suppress(OSError, http.client.HTTPException):  # the code is what counts
        text = answer.read(SHOWN_BYTES)
    shown = " ".join(text.decode("utf-8", "replace").split())
    message = f"HTTP {status}: {shown}" if shown else f"HTTP {status}"
    if status < 500 and status not in AGAIN:
        return Refusal(message, final=True)
    return Refusal(message, after=retry_after(answer.getheader("retry-after", "")))


def retry_after(text: str) -> float | None:
    """Seconds of a Retry-After, which is seconds or a date; None where it is neither."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
