"""Fixtures of the tests over the wire."""

import pytest

from tests.support.wire import Wire


@pytest.fixture
def wire(shared_wire: Wire) -> Wire:
    """A channel to a running server that other tests use as well: take experiments of your own."""
    return shared_wire
