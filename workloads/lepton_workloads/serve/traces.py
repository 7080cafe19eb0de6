"""W3C trace context: the trace that a request belongs to, checked, or none.

What is not valid is ignored, as the specification wants it: a request is not refused for its tracing.
https://www.w3.org/TR/trace-context/
"""

from collections.abc import Iterable

MAX_TRACESTATE = 512
"""Characters; the specification asks for passing on at least these."""
_LENGTH = 55
_HEX = frozenset("0123456789abcdef")


def read_trace(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, str]:
    """traceparent and tracestate of a request, checked; empty strings where there is no valid one."""
    parents: list[bytes] = []
    states: list[bytes] = []
    for name, value in headers:
        if name == b"traceparent":
            parents.append(value)
        elif name == b"tracestate":
            states.append(value)
    if len(parents) != 1:
        return "", ""
    parent = checked_traceparent(parents[0].decode("latin-1").strip())
    return parent, checked_tracestate(b",".join(states).decode("latin-1").strip()) if parent else ""


def checked_traceparent(text: str) -> str:
    """A traceparent of version 00 for a valid text, else the empty string.

    Versions that are not known yet may have more fields: those that are known are taken over.
    """
    if len(text) < _LENGTH or text[2] != "-" or text[35] != "-" or text[52] != "-":
        return ""
    version, trace, parent, flags = text[:2], text[3:35], text[36:52], text[53:55]
    if not _HEX.issuperset(version + trace + parent + flags):
        return ""
    if version == "ff" or trace == "0" * 32 or parent == "0" * 16:
        return ""
    if version == "00":
        return text if len(text) == _LENGTH else ""
    if len(text) > _LENGTH and text[_LENGTH] != "-":
        return ""
    return f"00-{trace}-{parent}-{int(flags, 16) & 1:02x}"


def checked_tracestate(text: str) -> str:
    """A tracestate that may be passed on: printable ASCII; whole entries are left out at its end if it is too long."""
    if not text.isascii() or not text.replace("\t", " ").isprintable():
        return ""
    if len(text) > MAX_TRACESTATE:
        text = text[: MAX_TRACESTATE + 1].rpartition(",")[0]
    return text


def trace_id(traceparent: str) -> str:
    """The trace's 32 hex digits; empty when there is none."""
    return traceparent[3:35]
