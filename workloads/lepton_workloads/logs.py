"""Structured logs: one JSON object a line on standard output.

Messages start with a capital letter, have no final period, and keep what varies in fields.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "logger", "message", ...fields}`; an exception adds `traceback`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the fields hold."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, default=str)


class Log:
    """A logger whose keyword arguments become fields: `log.info("Read dataset", samples=3)`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, message: str, **fields: object) -> None:
        """What happened, in past tense."""
        self._logger.info(message, extra={"fields": fields})

    def warning(self, message: str, **fields: object) -> None:
        """Something to look at that stops nothing."""
        self._logger.warning(message, extra={"fields": fields})

    def error(self, message: str, *, error: BaseException | None = None, **fields: object) -> None:
        """A failure; `error` adds its traceback."""
        self._logger.error(message, exc_info=error, extra={"fields": fields})


def set_up_logs() -> None:
    """Send every logger to standard output as JSON; called once, by the main module of a container."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
