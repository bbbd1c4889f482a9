"""What `serve` posts of each block, and what becomes of it.

An experiment need not declare all metrics that are posted. The service refuses a whole reward that names an
unknown one, so the rest is posted again, and the name is left out for a minute. A value that a metric refuses
is something else: it is counted and warned about, and the rest is posted again all the same.
"""

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bandit.client.counts import Counters, EventKind
from bandit.client.errors import (
    AlreadyExistsError,
    CallError,
    ConflictError,
    InternalError,
    InvalidArgumentError,
    UnavailableError,
)
from bandit.client.logs import Throttle, log
from bandit.client.values import RewardResult

LATENCY: Final = "latency_ms"
ERROR: Final = "error"
NO_ANSWER: Final = "no_answer"
SHADOW_STATUS: Final = "shadow_status"
"""1 if the shadow answered, 0 if not. It is posted of every shadow decision that was mirrored, and is never
assumed: what is not posted is no value."""

UNDECLARED_SECONDS: Final = 60.0
"""How long metrics that an experiment does not declare are left out."""

MAX_EXPERIMENTS: Final = 1000
"""Experiments whose undeclared metrics are remembered."""

_TEMPORARY: Final = (ConflictError, InternalError, UnavailableError)
_FIELD: Final = re.compile(r"""outcomes\[(["'])(.*)\1\]""")
_NO_SUCH_METRIC: Final = "no such metric"  # how the service words it; any other rule is about the value


@dataclass(frozen=True, slots=True)
class Post:
    """The outcomes of one block, for its decision."""

    experiment: str
    decision_id: str
    outcomes: Mapping[str, float]

    def without(self, names: Iterable[str]) -> "Post":
        """Return the post without some metrics."""
        left = {name: value for name, value in self.outcomes.items() if name not in names}
        return replace(self, outcomes=left)


def measured(seconds: float, longest_ms: float, *, has_failed: bool) -> dict[str, float]:
    """Return the outcomes of a block that took so long; its latency is cut off at `longest_ms`."""
    latency = min(max(seconds * 1000.0, 0.0), longest_ms)
    return {LATENCY: latency, ERROR: float(has_failed), NO_ANSWER: 0.0}


def mirrored(seconds: float, longest_ms: float, exception: BaseException | None) -> dict[str, float]:
    """Return the outcomes of a block in which a shadow answered, or failed to.

    A block that was given up by its caller says nothing of the arm but that there was no answer.
    """
    if exception is not None and not isinstance(exception, Exception):
        return {SHADOW_STATUS: 0.0}
    has_failed = exception is not None
    return {SHADOW_STATUS: float(not has_failed)} | measured(seconds, longest_ms, has_failed=has_failed)


class Postings:
    """Decides what is sent of posts, and counts what became of them; thread-safe.

    Args:
        counters: count the outcomes.
        clock: monotonic seconds.
    """

    def __init__(self, counters: Counters, clock: Callable[[], float] = time.monotonic) -> None:
        self._counters = counters
        self._clock = clock
        self._throttle = Throttle(clock)
        self._experiment_to_undeclared: dict[str, tuple[float, frozenset[str]]] = {}

    def wanted(self, post: Post) -> Post | None:
        """Return the post without what its experiment does not declare; None if nothing is left."""
        until, names = self._experiment_to_undeclared.get(post.experiment, (0.0, frozenset()))
        if not names or self._clock() >= until:
            return post
        left = post.without(names)
        return left if left.outcomes else None

    def drop(self, posts: Iterable[Post]) -> None:
        """Count posts that will not be sent."""
        for post in posts:
            self._counters.add(EventKind.DROPPED, len(post.outcomes), experiment=post.experiment)

    def warn_of_shadow(self, experiment: str, arm: str) -> None:
        """Log the exception that is being handled, which an arm raised in shadow."""
        n_unsaid = self._throttle.admit((experiment, arm, SHADOW_STATUS))
        if n_unsaid is not None:
            text = "experiment %r: arm %r failed in shadow (and %d warnings since the last one)"
            log(logging.WARNING, text, experiment, arm, n_unsaid, exc_info=True)

    def settle(self, posts: Sequence[Post], answers: Sequence[RewardResult | CallError]) -> list[Post]:
        """Count what became of posts; return what of them is to be sent again, each with fewer metrics."""
        again = [self._settle(post, answer) for post, answer in zip(posts, answers, strict=True)]
        return [post for post in again if post is not None]

    def _settle(self, post: Post, answer: RewardResult | CallError) -> Post | None:
        if isinstance(answer, RewardResult):
            n_posted = len(answer.metric_to_result)
            self._counters.add(EventKind.POSTED, n_posted, experiment=post.experiment)
            return None
        name_to_rule = _refused_names(answer, post)
        if name_to_rule:
            undeclared = {name for name, rule in name_to_rule.items() if _NO_SUCH_METRIC in rule}
            if undeclared:
                self._leave_out(post.experiment, undeclared)
            for name in name_to_rule.keys() - undeclared:
                self._refuse(post, name, name_to_rule[name], answer)
            left = post.without(name_to_rule)
            return left if left.outcomes else None
        kind = EventKind.FAILED if isinstance(answer, _TEMPORARY) else EventKind.REFUSED
        self._counters.add(kind, len(post.outcomes), experiment=post.experiment, cause=answer)
        # A decision that is handed back with `previous` has been posted already: that is no surprise.
        n_unsaid = None if isinstance(answer, AlreadyExistsError) else self._admit(post, answer.code.name)
        if n_unsaid is not None:
            text = "experiment %r: posts of serve %s: %s (and %d warnings since the last one)"
            log(logging.WARNING, text, post.experiment, kind.value, answer, n_unsaid)
        return None

    def _leave_out(self, experiment: str, names: set[str]) -> None:
        if len(self._experiment_to_undeclared) >= MAX_EXPERIMENTS:
            self._experiment_to_undeclared.clear()
        until, known = self._experiment_to_undeclared.get(experiment, (0.0, frozenset()))
        now = self._clock()
        kept = known if now < until else frozenset()
        self._experiment_to_undeclared[experiment] = (now + UNDECLARED_SECONDS, kept | names)

    def _refuse(self, post: Post, name: str, rule: str, cause: CallError) -> None:
        self._counters.add(EventKind.REFUSED, experiment=post.experiment, cause=cause)
        n_unsaid = self._admit(post, name)
        if n_unsaid is not None:
            log(
                logging.WARNING,
                "experiment %r: %s of serve was refused: %s; declare the metric with a wider range or "
                "with clip = true, or give serve a smaller longest_ms (and %d warnings since the last one)",
                post.experiment,
                name,
                rule,
                n_unsaid,
            )

    def _admit(self, post: Post, word: str) -> int | None:
        return self._throttle.admit((post.experiment, word))


def _refused_names(error: CallError, post: Post) -> dict[str, str]:
    """Return the post's metrics that the service refused, each with the rule; empty if it was all of it."""
    if not isinstance(error, InvalidArgumentError):
        return {}
    found = ((_FIELD.fullmatch(each.field), each.description) for each in error.field_violations)
    return {match[2]: rule for match, rule in found if match is not None and match[2] in post.outcomes}
