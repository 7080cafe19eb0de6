"""What the API server answers when it doesn't do as asked, as exceptions."""

import json
import re
from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """An answer that is not a success; `str()` is the server's message."""

    def __init__(
        self, message: str, *, status: int = 0, reason: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        """Seconds that the server asks us to wait."""
        self.child: tuple[str, str] | None = None
        """(kind, name) of the child that was being written."""


class Unreachable(ApiError):
    """No answer: refused, cut, or too late. A write may or may not have happened."""


class NotLeader(ApiError):
    """A write that was not sent: another operator may lead by now."""


class BadRequest(ApiError):
    """400."""


class Unauthorized(ApiError):
    """401: the credentials are not (or no longer) good."""


class Forbidden(ApiError):
    """403: by RBAC, by a quota, or by admission; see `missing_right` and `is_quota`."""


class NotFound(ApiError):
    """404."""


class Conflict(ApiError):
    """409: a precondition or another field manager."""


class AlreadyExists(ApiError):
    """409: the name is taken."""


class Gone(ApiError):
    """410: the resourceVersion is too old; list again."""


class Invalid(ApiError):
    """422: the object doesn't fit its schema, or admission refused it."""


class TooManyRequests(ApiError):
    """429."""


class ServerError(ApiError):
    """5xx."""


_BY_STATUS: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}

_MISSING_RIGHT = re.compile(
    r'cannot (?P<verb>[\w-]+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
)


def error_from(status: int, body: bytes, headers: Mapping[str, str]) -> ApiError:
    """The exception of a response."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        answer = {"message": body[:300].decode("utf-8", "replace").strip()}
    return error_of(status, answer, headers.get("Retry-After"))


def error_of(code: int, answer: Mapping[str, Any], retry_after: str | None = None) -> ApiError:
    """The exception of a Status object, which also comes as an ERROR event of a watch."""
    reason = str(answer.get("reason") or "")
    kind = _BY_STATUS.get(code, ServerError if code >= 500 else ApiError)
    if reason == "AlreadyExists":
        kind = AlreadyExists
    details = answer.get("details")
    seconds = retry_after or (details.get("retryAfterSeconds") if isinstance(details, dict) else None)
    return kind(
        str(answer.get("message") or f"HTTP {code}"),
        status=code,
        reason=reason,
        retry_after=_seconds(seconds),
    )


def missing_right(error: ApiError) -> str | None:
    """`create jobs.batch` when RBAC refused, else None."""
    found = _MISSING_RIGHT.search(str(error))
    if found is None:
        return None
    group = found["group"]
    return f"{found['verb']} {found['resource']}{'.' + group if group else ''}"


def is_quota(error: ApiError) -> bool:
    """Whether a ResourceQuota refused."""
    return "exceeded quota" in str(error) or "failed quota" in str(error)


def is_terminating_namespace(error: ApiError) -> bool:
    """Whether the namespace is being deleted."""
    return "because it is being terminated" in str(error)


def _seconds(text: Any) -> float | None:
    try:
        return max(0.0, float(text))
    except (TypeError, ValueError):
        return None
