"""Fixtures of what only the fast lane has: all calls go to it."""

import pytest

from tests.support.process import FAST_LANE


@pytest.fixture(scope="session")
def listener() -> str:
    """The fast lane."""
    return FAST_LANE
