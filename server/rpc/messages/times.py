"""Durations and instants on the wire."""

from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp


def to_timestamp(instant: datetime) -> Timestamp:
    """An instant on the wire."""
    timestamp = Timestamp()
    timestamp.FromDatetime(instant)
    return timestamp


def to_duration(length: timedelta) -> Duration:
    """A duration on the wire."""
    duration = Duration()
    duration.FromTimedelta(length)
    return duration
