"""Logs that say which task they are of.

    handler = logging.StreamHandler()
    handler.addFilter(workers.TaskFilter())        # in `init`, or wherever logging is set up
    handler.setFormatter(workers.JsonFormatter())

Everything that a handler of a pool logs, through whatever logger, also deep inside a library, then
has the task's `task` (its uid), `topic`, `partition`, `offset` and `attempt` as attributes of the
log record: for `%(task)s` in a format, or as fields of JSON. Outside of a task they are empty.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final, Literal

from workers.current_task import CurrentTask, current_or_none

LogFormat = Literal["text", "json"]
#: What the log of a worker, and of `python -m workers run`, looks like.
LOG_FORMAT: Final = "%(asctime)s %(process)d %(levelname)s %(name)s: %(of_task)s%(message)s"
FIELDS: Final = ("task", "topic", "partition", "offset", "attempt")


def fields_of(task: CurrentTask) -> dict[str, object]:
    """What is said of a task: for `extra`, where another one is in hand, or none."""
    record = task.record
    values = task.uid, record.topic, record.partition, record.offset, task.attempt
    return dict(zip(FIELDS, values, strict=True))


class TaskFilter(logging.Filter):
    """Keeps all log records, and adds the task that they are of. For handlers of logging.

    A filter of a logger would miss what other loggers hand on to it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Adds `task`, `topic`, `partition`, `offset`, `attempt`, and `of_task` for formats."""
        record.of_task = ""
        if not hasattr(record, "task"):
            task = current_or_none()
            told = dict.fromkeys(FIELDS) if task is None else fields_of(task)
            record.__dict__.update(told)
            if task is not None:
                record.of_task = f"[{told['task']} #{told['attempt']}] "
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line.

    `time` (ISO 8601, UTC), `level`, `logger`, `pid`, `message`, the task's fields if there is one,
    `exception` (the traceback as text) if there is one, and what was passed as `extra`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        for name, value in record.__dict__.items():
            if name not in _OWN and value is not None:
                told[name] = value
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            told["stack"] = self.formatStack(record.stack_info)
        return json.dumps(told, default=str, ensure_ascii=False)


#: What every log record has, and what is there for text alone.
_OWN: Final = frozenset(
    {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "of_task"}
)


def configure(level: int, log_format: LogFormat) -> None:
    """Logs to stderr from this level on, unless the program has set up logging by itself."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(TaskFilter())
    formatter = JsonFormatter() if log_format == "json" else logging.Formatter(LOG_FORMAT)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler])
