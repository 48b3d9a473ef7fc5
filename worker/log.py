"""Structured logs by structlog: readable lines on a terminal, JSON elsewhere; never a secret, never a row's values."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog


def logger(name: str) -> Any:
    """A logger bound to the module's name."""
    return structlog.get_logger(name)


def configure_log(level: str = "WARNING", *, stream: Any = None) -> None:
    """Send logs of at least this level to stderr (or `stream`): for people on a terminal, as JSON lines elsewhere."""
    target = stream or sys.stderr
    renderer: Any = (
        structlog.dev.ConsoleRenderer() if target.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=target),
        cache_logger_on_first_use=False,
    )
