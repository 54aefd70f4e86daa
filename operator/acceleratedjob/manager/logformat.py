"""The formats of the operator's log: text for people, or one JSON object per line.

A record may identify its job in `extra`; both formats show it.
"""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from acceleratedjob.terminal import lines

FIELDS = ("namespace", "job", "attempt")


def about(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields of a record that identify its job; kopf's records have `k8s_ref`."""
    ref: dict[str, Any] = getattr(record, "k8s_ref", None) or {}
    known = {"namespace": ref.get("namespace"), "job": ref.get("name")}
    known |= {name: getattr(record, name, known.get(name)) for name in FIELDS}
    return {name: known[name] for name in FIELDS if known[name] is not None}


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON, with its traceback."""
        time = datetime.fromtimestamp(record.created, UTC)
        entry = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **about(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """Formats a record as a line of text that ends with the job."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-8s %(message)s%(tail)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """Return the line, without the traceback."""
        record.tail = "".join(f" {name}={value}" for name, value in about(record).items())
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        """Return the record and its traceback, with control characters escaped."""
        return "\n".join(lines(super().format(record), "  | "))


def is_news(record: logging.LogRecord) -> bool:
    """Whether a record should be logged.

    Kopf logs each request without a response and the end of each of its tasks. These records are
    dropped, because the operator logs both itself.
    """
    text = record.getMessage() if record.name.startswith("kopf") else ""
    is_try = text.startswith("Request attempt ") and "-> API" not in text
    return not (is_try or " has failed: " in text)


def configure_logging(log_format: str, level: str) -> None:
    """Log to standard error, in one of the formats."""
    handler = logging.StreamHandler()
    handler.addFilter(is_news)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    if level != "debug":  # kopf logs every event, aiohttp every probe
        for name in ("kopf", "asyncio", "aiohttp"):
            logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
