"""A clock that is wrong for seconds has no lasting effect: every decision can be rewarded afterwards."""

from datetime import timedelta

import pytest

from tests.faketime.site import EVERYWHERE, Site, lasting, wrong_by
from tests.faketime.traffic import Traffic, declare, is_final, posted, require_unharmed
from tests.support.wire import Wire

AHEAD = timedelta(days=90)
ON_POSTGRESQL = EVERYWHERE[1:]

everywhere = pytest.mark.parametrize("site", EVERYWHERE, indirect=True)
wrong_times = wrong_by(ahead=AHEAD, far_ahead=timedelta(days=3_650), behind=timedelta(days=-30))


def require_nothing_for_good(wire: Wire, traffic: Traffic) -> None:
    """Check that under the wrong clock a server chooses, and refuses no open decision permanently."""
    for state, name in traffic.names.items():
        assert wire.choose(name).arm in {"a", "b"}
        answer = posted(wire, traffic.open[state].pop())
        assert isinstance(answer, dict) or not is_final(answer), (state, answer)


@wrong_times
def test_a_start_under_a_wrong_clock(site: Site, off: timedelta) -> None:
    """Three seconds under a wrong clock, between two starts under the right one, lose nothing."""
    with site.serving() as wire:
        traffic = declare(wire)
    site.set_off(off)
    with site.serving() as wire:
        lasting(3)
        require_nothing_for_good(wire, traffic)
    site.set_right()
    with site.serving() as wire:
        require_unharmed(wire, traffic)


@wrong_times
def test_a_clock_that_is_set_under_a_running_server(site: Site, off: timedelta) -> None:
    """Five seconds under a wrong clock lose nothing, in the same process and in the next."""
    with site.serving() as wire:
        traffic = declare(wire)
        site.set_off(off)
        lasting(5)
        require_nothing_for_good(wire, traffic)
        site.set_right()
        require_unharmed(wire, traffic)
    with site.serving() as wire:
        require_unharmed(wire, declare(wire))


@pytest.mark.parametrize("site", ON_POSTGRESQL, indirect=True)
def test_one_wrong_server_of_two(site: Site) -> None:
    """A server that is wrong for four seconds, next to a right one, harms no decision of either."""
    right = site.start(is_right=True)
    wrong = site.start()
    traffics = [declare(wire) for wire in (right, wrong)]
    site.set_off(AHEAD)
    lasting(4)
    for wire, traffic in zip((wrong, right), traffics, strict=True):
        require_nothing_for_good(wire, traffic)
    site.set_right()
    for wire in (right, wrong):
        for traffic in traffics:
            wire.choose(traffic.names["running"])
    require_unharmed(right, traffics[1])
    require_unharmed(wrong, traffics[0])
    site.stop()


@everywhere
def test_a_clock_at_1970(site: Site) -> None:
    """Nothing fails or is refused permanently, whether the clock is at 1970 at the start or later."""
    with site.serving() as wire:
        traffic = declare(wire)
        site.set_to_1970()
        lasting(1)
        require_nothing_for_good(wire, traffic)
    with site.serving() as wire:
        lasting(1)
        assert wire.choose(traffic.names["running"]).arm in {"a", "b"}
    site.set_right()
    with site.serving() as wire:
        require_unharmed(wire, traffic)
