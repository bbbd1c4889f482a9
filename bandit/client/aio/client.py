"""The client for asyncio."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from os import PathLike
from types import TracebackType
from typing import Self

import grpc

from bandit.client.aio.admin import AsyncAdmin
from bandit.client.aio.connection import AsyncConnection
from bandit.client.aio.experiments import AsyncExperiments
from bandit.client.aio.mirroring import AsyncMirroring
from bandit.client.aio.posts import AsyncPosts
from bandit.client.aio.rewards import AsyncRewards
from bandit.client.aio.serving import AsyncServing
from bandit.client.arguments import call_seconds, channel_options, duration
from bandit.client.batches import batch_choose_request, choices, choose_batch
from bandit.client.counts import ClientEvent, Counters, Counts
from bandit.client.credentials import Tls, channel_credentials
from bandit.client.endpoint import DEFAULT_TARGET, Endpoint
from bandit.client.errors import CallError, more_telling
from bandit.client.fallbacks import Fallbacks
from bandit.client.messages import check_fallback, choice, choose_request, reward_request, reward_result
from bandit.client.processes.copies import reduced
from bandit.client.retry import Attempts, RetryPolicy
from bandit.client.values import Choice, Fallback, Question, Reward, Rewarded, RewardResult, ShadowDecision
from bandit.wrong_types import require


class AsyncBanditClient:
    """Chooses arms and posts rewards without blocking; one per process, for any number of event loops.

    The channel is opened by the first call and reconnects by itself. A process that forks must make the first
    call of any client after the fork, in each child: in the child of a process that had called, `choose`
    serves the fallback and others raise, with the reason `FORKED`. A pickled client travels as its arguments;
    a copy is the client itself. Each event loop has a channel of its own, closed with the loop.

    Args:
        target: the service's address, in gRPC's notation.
        choose_timeout: how long `choose` waits before it serves the fallback, in seconds.
        batch_choose_timeout: the same for `batch_choose`.
        experiment_timeout: the default timeout of each experiment or admin call, in seconds.
        retry: how long and how often a reward is tried.
        tls: certificates; None for plain text.
        token: a bearer token, or a path (not a string) to a file that holds one, which is read again when the
            service refuses it; either needs TLS or a loopback target.
        credentials: of the channel, made by the caller, in place of `tls`.
        options: gRPC channel options that replace the client's own.
        stream: True to send the questions of `choose` over one long-lived stream. Results, fallbacks and
            deadlines are the same; without a stream, or beside a full one, they are calls.
        on_event: a function that is called with each `ClientEvent` as it is counted, by whichever thread or
            event loop it happens in; it must be quick. What it raises is logged once and goes no further.

    Attributes:
        experiments: the experiment calls.
        admin: the calls of an admin.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: the target is empty or a URL, a duration is not positive and finite, the token would leave
            the machine in plain text, or both `tls` and `credentials` are given.
        OSError: a file of `tls` or `token` can't be read.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        choose_timeout: float = 0.05,
        batch_choose_timeout: float = 0.5,
        experiment_timeout: float = 10.0,
        retry: RetryPolicy | None = None,
        tls: Tls | None = None,
        token: str | PathLike[str] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        options: Sequence[tuple[str, str | int]] = (),
        stream: bool = False,
        on_event: Callable[[ClientEvent], object] | None = None,
    ) -> None:
        self._arguments = {name: value for name, value in locals().items() if name != "self"}
        self._choose_timeout = duration("choose_timeout", choose_timeout)
        self._batch_choose_timeout = duration("batch_choose_timeout", batch_choose_timeout)
        experiment_timeout = duration("experiment_timeout", experiment_timeout)
        require("retry", retry, RetryPolicy | None, "a RetryPolicy or None")
        require("stream", stream, bool, "a bool")
        self._retry = retry or RetryPolicy()
        self._counters = Counters(on_event)
        self._fallbacks = Fallbacks(self._counters)
        credentials = channel_credentials(tls, credentials)
        options = channel_options(options)
        endpoint = Endpoint(target=target, credentials=credentials, token=token, options=options)
        self._connection = AsyncConnection(endpoint, has_stream=stream)
        self.experiments = AsyncExperiments(self._connection, experiment_timeout)
        self.admin = AsyncAdmin(self._connection, experiment_timeout)
        self._rewards = AsyncRewards(self._connection, self._retry, self._counters)
        self._posts = AsyncPosts(self._rewards, self._counters)

    @property
    def counts(self) -> Counts:
        """Fallbacks by cause, late outcomes, and what became of the posts of `serve`, so far."""
        return self._counters.counts()

    async def choose(
        self,
        experiment: str,
        *,
        fallback: Fallback,
        unit: str | None = None,
        attributes: Mapping[str, str] | None = None,
        eligible_arms: Collection[str] | None = None,
        previous: Choice | str | None = None,
        timeout: float | None = None,
    ) -> Choice:
        """Return the arm that serves this request: the service's, or the fallback if none comes in time.

        No state of the service and no value of an argument makes this raise. If the service is slow, down or
        closed, if the experiment is unknown or not started, or if a unit or token is refused, the fallback
        serves, with the cause in `Choice.fallback_cause` and in a warning of the logger `bandit.client`, at
        most one per experiment and status every 10 s.

        Args:
            experiment: the experiment's name.
            fallback: what to serve without an answer.
            unit: the sticky unit, such as a user id; None draws an arm at random.
            attributes: what is known of the unit, for segments.
            eligible_arms: the arms that the caller can serve; None for all, empty serves the fallback.
            previous: an earlier choice for this unit, or its decision id, to stay with its arm.
            timeout: seconds, in place of the client's.

        Raises:
            TypeError: an argument has a wrong type.
        """
        check_fallback(fallback)
        try:
            request = choose_request(experiment, unit, attributes, eligible_arms, previous)
            seconds = self._choose_timeout if timeout is None else call_seconds(timeout)
            return choice(await self._connection.choose(request, seconds))
        except CallError as error:
            return self._fallbacks.serve(experiment, fallback, error)

    def serve(
        self,
        experiment: str,
        *,
        fallback: Fallback,
        unit: str | None = None,
        attributes: Mapping[str, str] | None = None,
        eligible_arms: Collection[str] | None = None,
        previous: Choice | str | None = None,
        timeout: float | None = None,
        longest_ms: float = 60_000.0,
    ) -> AsyncServing:
        """Choose an arm for a block of code, time the block, and post how it went.

            async with client.serve("demo", unit=user_id, fallback=Fallback("v1")) as choice:
                answer = models[choice.arm](request)

        At the end of the block `latency_ms`, `error` (1 if the block raised, otherwise 0) and `no_answer` (0)
        are posted for its decision, as far as the experiment declares metrics of these names. What the block
        raises goes on unchanged. A block that is cancelled, or left by KeyboardInterrupt, SystemExit or
        GeneratorExit, posts nothing: it has no answer, and that may not be the arm's fault. A fallback
        posts nothing. Where `previous` hands a decision back, its first block counts.

        Posting never holds the block up and never makes it fail. Posts wait in memory, at most 10,000
        blocks, and are sent in batches after a tenth of a second; `close` sends what waits, for at most 2 s.
        What is dropped, refused or not answered is in `counts`, and a refusal is a warning of the logger
        `bandit.client`.

        Args:
            experiment: the experiment's name; this and the others up to `timeout` as of `choose`.
            fallback: what to serve without an answer.
            unit: the sticky unit.
            attributes: what is known of the unit.
            eligible_arms: the arms that the caller can serve.
            previous: an earlier choice for this unit, or its decision id.
            timeout: seconds for the choice, in place of the client's; the block may take any time.
            longest_ms: a longer latency counts as this one, in milliseconds. Declare the range of
                `latency_ms` at least as wide, or with `clip = true`: otherwise its worst values are refused.

        Raises:
            TypeError: an argument has a wrong type; for those of `choose`, where the block begins.
            ValueError: `longest_ms` is not positive and finite.
        """
        choose = partial(
            self.choose,
            experiment,
            fallback=fallback,
            unit=unit,
            attributes=attributes,
            eligible_arms=eligible_arms,
            previous=previous,
            timeout=timeout,
        )
        return AsyncServing(
            experiment, choose, self._posts, duration("longest_ms", longest_ms, "milliseconds")
        )

    def mirror(
        self, experiment: str, shadow: ShadowDecision, *, longest_ms: float = 60_000.0
    ) -> AsyncMirroring:
        """Let an arm answer in shadow in a block of code, time the block, and post how it went.

            for shadow in choice.shadows:
                async with client.mirror("demo", shadow):
                    await models[shadow.arm](request)

        Run it where it does not hold up the answer, such as in a task of its own. What the block raises is
        logged and goes no further: a shadow never harms the request that it saw.

        At the end of the block `shadow_status` (1 if it answered, 0 if it raised) is posted for the shadow's
        decision, with `latency_ms`, `error` and `no_answer` as of `serve`, as far as the experiment declares
        metrics of these names. A block that is cancelled, or left by KeyboardInterrupt, SystemExit or
        GeneratorExit, posts `shadow_status` 0 alone. So every shadow decision whose block began has an
        outcome. One whose block never began has none, and counts as not mirrored, never as a success.

        Other outcomes of the answer, such as its distance from the champion's, are rewards of
        `shadow.decision_id`. Posting is as of `serve`.

        Args:
            experiment: the experiment's name, as of the choice.
            shadow: one of `Choice.shadows`.
            longest_ms: a longer latency counts as this one, in milliseconds; as of `serve`.

        Raises:
            TypeError: an argument has a wrong type.
            ValueError: `longest_ms` is not positive and finite.
        """
        require("experiment", experiment, str, "a str")
        require("shadow", shadow, ShadowDecision, "a ShadowDecision, one of Choice.shadows")
        longest = duration("longest_ms", longest_ms, "milliseconds")
        return AsyncMirroring(experiment, shadow, self._posts, longest)

    async def batch_choose(
        self, questions: Sequence[Question], *, timeout: float | None = None
    ) -> list[Choice]:
        """Return one choice for each question, in order; those without an answer get their own fallback.

        Raises:
            TypeError: an argument of a question has a wrong type.
            ValueError: there are more than 1,000 questions.
        """
        batch = choose_batch(questions)
        if batch.pending:
            try:
                response = await self._connection.call(
                    self._connection.stubs.bandit.BatchChoose,
                    batch_choose_request(batch),
                    self._batch_choose_timeout if timeout is None else call_seconds(timeout),
                )
                batch.absorb(choices(response.results))
            except CallError as error:
                batch.fail(error)
        return self._fallbacks.serve_batch(questions, batch)

    async def reward(
        self,
        decision: Rewarded,
        outcomes: Mapping[str, float],
        *,
        revision: int = 0,
        timeout: float | None = None,
    ) -> RewardResult:
        """Record the outcomes of a decision; once this returns, they are committed.

        The call is retried within its timeout while the service is unavailable or asks callers to wait, and
        may be made again at any time: a decision counts once for each metric. The reward of a fallback is not
        sent, and the result says so.

        Args:
            decision: the choice, what an arm saw in shadow, or its decision id; an empty id is a fallback's.
            outcomes: metric name to value, in the metric's own unit and range.
            revision: 0 for a first report; a higher one replaces the value of a lower one.
            timeout: seconds for all attempts, in place of the retry policy's.

        Raises:
            TypeError: an argument has a wrong type.
            CallError: the outcomes are not known to be recorded; the subclass says what to do.
        """
        request = reward_request(decision, outcomes, revision)
        if isinstance(request, RewardResult):
            return request
        attempts = Attempts(self._retry, timeout)
        failure: CallError | None = None
        while True:
            try:
                stub = self._connection.stubs.bandit
                response = await self._connection.call(stub.Reward, request, attempts.begin())
            except CallError as error:
                failure = more_telling(failure, error)
                delay = attempts.find_delay(failure)
                if delay is None:
                    raise failure from failure.__cause__
            else:
                result = reward_result(response)
                self._counters.add_late(result)
                return result
            await asyncio.sleep(delay)

    async def batch_reward(
        self, rewards: Sequence[Reward], *, timeout: float | None = None
    ) -> list[RewardResult | CallError]:
        """Record the outcomes of many decisions; returns a result or an error for each, in order.

        Only those that may still succeed are sent again. The state of the service does not make this raise:
        while it is unavailable, each reward without a result has the error.

        Raises:
            TypeError: an argument of a reward has a wrong type.
            ValueError: there are more than 1,000 rewards.
        """
        return await self._rewards.send(rewards, timeout)

    async def close(self) -> None:
        """Send the posts that wait, for at most 2 s, then cancel the calls in flight and refuse new ones.

        Closing again does nothing.
        """
        await self._posts.close()
        await self._connection.close()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        return reduced(type(self), self._arguments)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
