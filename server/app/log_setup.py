"""Logs: JSON on standard error, one line per event."""

import logging
from typing import Final, TextIO, cast

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from server.services.runtime.log_stream import LogStream

_STANDARD_ERROR: Final = 2
_LONGEST_TEXT = 2_000


def set_up_logs(level: str, *, worker: int | None = None) -> None:
    """Log events of at least `level` to standard error, with the number of the worker, if any.

    Lines that standard error does not take are dropped; the next one that it takes has their number.
    """
    stream = LogStream(_STANDARD_ERROR)

    def add_facts(
        _logger: object, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        if worker is not None:
            event["worker"] = worker
        if stream.n_lost:
            event["lines_lost"] = stream.n_lost
        return event

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            add_facts,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Without local variables, which include requests, units and keys.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            _cap_texts,
            structlog.processors.JSONRenderer(sort_keys=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_: structlog.WriteLogger(cast("TextIO", stream)),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Relay()], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)


class _Relay(logging.Handler):
    """Logs the records and warnings of libraries through structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno,
            "library.said",
            logger=record.name,
            text=record.getMessage(),
            exc_info=record.exc_info,
        )


def _cap_texts(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Shorten long texts, which may be a client's; JSON escapes what would break a line."""
    for key, value in event.items():
        if isinstance(value, str) and len(value) > _LONGEST_TEXT:
            event[key] = value[:_LONGEST_TEXT] + "..."
    return event
