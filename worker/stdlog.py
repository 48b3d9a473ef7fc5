"""The standard library's log records (Celery's, kombu's) rendered as rowscore's own; it decides no levels."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from worker.log import configure_log


def adopt_standard_logs(level: int, file: str | None = None) -> None:
    """Send rowscore's and all standard logs of at least this level to stderr, or append them to a file.

    The root logger's handlers are replaced; child processes inherit them.
    """
    handler = logging.FileHandler(file, encoding="utf-8") if file else logging.StreamHandler(sys.__stderr__)
    configure_log(logging.getLevelName(level), stream=handler.stream)
    handler.setFormatter(_formatter(terminal=handler.stream.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def _formatter(*, terminal: bool) -> logging.Formatter:
    renderers: list[Any] = [structlog.dev.ConsoleRenderer()]
    if not terminal:
        renderers = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _on_one_line,
        ],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
    )


def _on_one_line(_logger: Any, _method: str, event: Any) -> Any:
    """Celery breaks the line where it says that it will try again."""
    event["event"] = " ".join(str(event["event"]).split())
    return event
