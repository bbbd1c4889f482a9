"""Logs: JSON on standard error, one line per event."""

import logging
import sys

import structlog
from structlog.tracebacks import ExceptionDictTransformer

_LONGEST_TEXT = 2_000


def set_up_logs(level: str, *, worker: int | None = None) -> None:
    """Log events of at least `level` to standard error, with the number of the worker, if any."""

    def add_worker(
        _logger: object, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        if worker is not None:
            event["worker"] = worker
        return event

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            add_worker,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Without local variables, which include requests, units and keys.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            _cap_texts,
            structlog.processors.JSONRenderer(sort_keys=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
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
