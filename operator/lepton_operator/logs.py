"""One JSON object a line on stdout: time, level, message, then the key-values of the record."""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from lepton_operator.facts import Key

_ATTRIBUTE = "lepton"

RECONCILE_ID: ContextVar[str | None] = ContextVar("reconcile_id", default=None)
"""Set for the length of one visit: all its lines can be found by it."""


def fields(key: Key | None = None, **values: Any) -> dict[str, Any]:
    """The `extra` argument of a log call: the object's identity and more key-values."""
    named = {"kind": key.kind, "namespace": key.namespace, "name": key.name} if key is not None else {}
    return {_ATTRIBUTE: {**named, **{name: value for name, value in values.items() if value is not None}}}


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON; no value can break the line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, _ATTRIBUTE, {}))
        if reconcile_id := RECONCILE_ID.get():
            line["reconcile_id"] = reconcile_id
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure_logging(level: str) -> None:
    """Everything goes to stdout as JSON; libraries speak from WARNING on, unless level is debug."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("lepton_operator").setLevel(level.upper())
    for library in ("kopf", "aiohttp", "kubernetes", "asyncio"):
        logging.getLogger(library).setLevel(logging.WARNING)
    # It warns that it leaves the signals alone in a thread of its own: as it should.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    # kopf's way of saying that a handler's event is not worth an error; ours never patch.
    logging.getLogger("kopf.activities").setLevel(logging.WARNING)
