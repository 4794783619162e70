"""How the agent logs: one line an event, `key=value`, to standard error.

An event is a constant message with its fields in `extra`, `action` among them. What is
foreign can forge neither a line nor a field: a value that is not plain is quoted, and
control characters are escaped.
"""

import json
import logging
import re
import sys

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PLAIN = re.compile(r"[\w.:/@+,\[\]-]+", re.ASCII)


class KeyValueFormatter(logging.Formatter):
    """Formats a record as time, level, message and fields; a traceback is indented below."""

    def format(self, record: logging.LogRecord) -> str:
        """Give one line, and one more for each of a traceback."""
        fields = {
            "time": f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{record.msecs:03.0f}",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _STANDARD},
        }
        line = " ".join(f"{name}={_quote(str(value))}" for name, value in fields.items())
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line += "".join(f"\n  {_escape(each)}" for each in trace.splitlines())
        return line


def configure(level: str) -> None:
    """Log to standard error from `level` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KeyValueFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def _quote(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def _escape(line: str) -> str:
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)
