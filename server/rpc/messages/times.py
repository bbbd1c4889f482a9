"""Durations and instants on the wire."""

from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp


def to_timestamp(instant: datetime) -> Timestamp:
    """Convert an instant to a protobuf Timestamp."""
    timestamp = Timestamp()
    timestamp.FromDatetime(instant)
    return timestamp


def to_duration(length: timedelta) -> Duration:
    """Convert a duration to a protobuf Duration."""
    duration = Duration()
    duration.FromTimedelta(length)
    return duration
