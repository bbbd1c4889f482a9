"""Fixtures of the tests over the wire."""

import pytest

from tests.support.wire import Wire


@pytest.fixture
def wire(shared_wire: Wire) -> Wire:
    """Open a channel to a server shared with other tests; each test needs its own experiments."""
    return shared_wire
