"""What a peer may do that costs it less than us: allowances of one connection."""

from typing import Final

from bandit.client.http2.frames import ConnectionFault, ErrorCode
from server.http2.limits import Allowance, Limits

_SECONDS_TO_REGAIN: Final = 10.0


class Budgets:
    """The allowances of a connection; see `Limits` for the attacks that they are for.

    Each method raises ConnectionFault (ENHANCE_YOUR_CALM) when one is used up.

    Args:
        limits: The limits.
        now: On the monotonic clock, in seconds.
    """

    __slots__ = (
        "_cancels",
        "_idle",
        "_incomplete",
        "_limits",
        "_n_updates",
        "_pings",
        "_refusals",
        "_resets",
        "_settings",
    )

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._n_updates = 0
        self._pings = Allowance(limits.pings, 0.1, now)
        self._settings = Allowance(limits.settings, 1.0, now)
        self._resets, self._cancels, self._refusals, self._incomplete = (
            Allowance(most, most / _SECONDS_TO_REGAIN, now)
            for most in (limits.resets, limits.cancels, limits.refusals, limits.incomplete_refusals)
        )
        self._idle: dict[str, Allowance] = {}

    def ping(self, now: float) -> None:
        """Count a PING with no response since the last."""
        _require(self._pings.take(now), "too_many_pings")  # the words by which gRPC's clients ping less

    def settings(self, now: float) -> None:
        """Count a SETTINGS frame."""
        _require(self._settings.take(now), "too many SETTINGS frames")

    def reset(self, now: float) -> None:
        """Count a stream that was reset before its request arrived, or by us for a fault of the peer."""
        _require(self._resets.take(now), "too many streams were reset")

    def reset_by_peer(self, now: float, *, has_arrived: bool) -> None:
        """Count a stream that the peer reset, after its request had arrived or before.

        Callers whose deadline passes reset many streams at once, while the store is away. The work of those
        streams goes on and keeps their places, so they gain nothing.
        """
        if has_arrived:
            _require(self._cancels.take(now), "too many calls were cancelled")
        else:
            self.reset(now)

    def refusal(self, now: float) -> None:
        """Count a stream beyond the limit on streams."""
        _require(self._refusals.take(now), "too many streams beyond the limit")

    def incomplete(self, now: float) -> None:
        """Count a stream beyond the limit on requests that have not arrived."""
        _require(self._incomplete.take(now), "too many requests have begun and not arrived")

    def idle(self, kind: str, now: float) -> None:
        """Count a frame that does nothing, of a kind such as `PRIORITY frames`."""
        allowance = self._idle.get(kind)
        if allowance is None:
            most = self._limits.idle_frames
            allowance = self._idle[kind] = Allowance(most, most / _SECONDS_TO_REGAIN, now)
        _require(allowance.take(now), f"too many {kind}")

    def window_update(self, n_reasons: int) -> None:
        """Count a WINDOW_UPDATE frame; each stream begun and each frame of a response is a reason for ten."""
        self._n_updates += 1
        _require(
            self._n_updates <= self._limits.window_updates + 10 * n_reasons, "too many WINDOW_UPDATE frames"
        )


def _require(is_allowed: bool, reason: str) -> None:  # noqa: FBT001 - a claim and its text
    if not is_allowed:
        raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, reason)
