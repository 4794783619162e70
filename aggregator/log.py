"""How the aggregator logs: one line an event, `key=value`, to standard error.

What is foreign cannot forge a line or a field: values are quoted where needed and
control characters escaped. What looks like a password in a URL is never written. What is
logged on behalf of an HTTP request names it.
"""

import json
import logging
import re
import sys
from contextvars import ContextVar
from typing import Final

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PLAIN: Final = re.compile(r"[\w.:/@+,\[\]-]+")
_URL_PASSWORD: Final = re.compile(r"(\w+://[^\s:/@]*:)[^\s@]+@")
_WORD_PASSWORD: Final = re.compile(r"(password\s*=\s*)('[^']*'|\S+)", re.IGNORECASE)


REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("REQUEST_ID", default=None)
"""Of the request on whose behalf we act; tasks that a request starts inherit it."""


class RequestFilter(logging.Filter):
    """Lets every record pass, and puts the request's id on those that belong to one."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Name the request unless the record does."""
        if (request_id := REQUEST_ID.get()) is not None:
            vars(record).setdefault("request_id", request_id)
        return True


class KeyValueFormatter(logging.Formatter):
    """Formats a record as `time level message fields`."""

    def format(self, record: logging.LogRecord) -> str:
        """Give one line, and indented ones for a traceback."""
        fields = {
            "time": f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{record.msecs:03.0f}",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _STANDARD},
        }
        line = " ".join(f"{name}={_value(value)}" for name, value in fields.items())
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line += "".join(f"\n  {_escape(each)}" for each in trace.splitlines())
        return line


def configure(level: str) -> None:
    """Log to standard error from `level` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KeyValueFormatter())
    handler.addFilter(RequestFilter())  # here, and not at a logger: those below pass it by
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("psycopg.pool").setLevel("ERROR")  # it warns of each failed attempt
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_no_hang_up)


def _is_no_hang_up(record: logging.LogRecord) -> bool:
    """Leave out that a call was over when it was ended: whoever wants to can bring that about."""
    return not record.msg.startswith("ExecuteBatchError")


def _value(value: object) -> str:
    text = _hide(str(value))
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def _escape(line: str) -> str:
    return _hide("".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in line))


def _hide(text: str) -> str:
    return _WORD_PASSWORD.sub(r"\1***", _URL_PASSWORD.sub(r"\1***@", text))
