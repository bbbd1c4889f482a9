"""The health that every transport serves."""

from server.rpc.handlers.health_states import SERVICE_UNKNOWN, HealthStates

SERVING = 1
NOT_SERVING = 2


def test_a_watch_sees_the_status_and_each_change() -> None:
    """It is told the current status at once, each change once, and nothing after its end."""
    states = HealthStates()
    states.set("a", SERVING)
    seen: list[int] = []
    end = states.watch("a", seen.append)
    states.set("b", NOT_SERVING)
    states.set("a", SERVING)
    states.set("a", NOT_SERVING)
    end()
    end()
    states.set("a", SERVING)
    assert seen == [SERVING, NOT_SERVING]
    assert states.get("a") == SERVING


def test_an_unknown_service_can_be_watched() -> None:
    """Its watch begins with SERVICE_UNKNOWN, and sees it become known; asked directly there is none."""
    states = HealthStates()
    seen: list[int] = []
    states.watch("later", seen.append)
    assert states.get("later") is None
    states.set("later", SERVING)
    assert seen == [SERVICE_UNKNOWN, SERVING]


def test_watches_of_one_service_are_apart() -> None:
    """The end of one watch leaves another of the same function."""
    states = HealthStates()
    seen: list[int] = []
    end = states.watch("a", seen.append)
    states.watch("a", seen.append)
    end()
    states.set("a", SERVING)
    assert seen == [SERVICE_UNKNOWN, SERVICE_UNKNOWN, SERVING]
