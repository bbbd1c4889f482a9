"""Batches of calls: one bad item fails alone, and only what may still succeed is sent again."""

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from bandit.client.errors import CallError, malformed_error, more_telling
from bandit.client.messages import (
    check_fallback,
    choice_or_error,
    choose_request,
    reward_request,
    reward_result,
)
from bandit.client.statuses import from_status
from bandit.client.values import Choice, Question, Reward, RewardResult
from bandit.v1 import bandit_pb2
from bandit.wrong_types import wrong_type

MAX_BATCH = 1000

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")


class Batch(Generic[RequestT, AnswerT]):
    """Requests by position, and the answer that each has so far.

    Attributes:
        pending: the requests still to be sent, in order; the same messages at each attempt.
        answers: the latest answer to each request, or the error in its place.
    """

    def __init__(self) -> None:
        self.pending: dict[int, RequestT] = {}
        self.answers: dict[int, AnswerT | CallError] = {}

    def absorb(self, answers: Sequence[AnswerT | CallError]) -> None:
        """Record one answer for each pending request, in order.

        Raises:
            InternalError: the number of answers differs from that of pending requests.
        """
        if len(answers) != len(self.pending):
            raise malformed_error(f"{len(self.pending)} requests got {len(answers)} answers")
        for position, answer in zip(tuple(self.pending), answers, strict=True):
            self._settle(position, answer)

    def fail(self, error: CallError) -> None:
        """Record the failure of the whole call as the answer to each pending request."""
        for position in tuple(self.pending):
            before = self.answers.get(position)
            self._settle(position, more_telling(before if isinstance(before, CallError) else None, error))

    def find_trouble(self) -> CallError | None:
        """Return the error of a pending request that asks for the longest wait; None if none is pending."""
        errors = (self.answers.get(position) for position in self.pending)
        troubles = (error for error in errors if isinstance(error, CallError))
        return max(troubles, key=lambda error: error.asked_seconds, default=None)

    def in_order(self) -> list[AnswerT | CallError]:
        """Return the answers in the order of the requests."""
        return [self.answers[position] for position in sorted(self.answers)]

    def _settle(self, position: int, answer: AnswerT | CallError) -> None:
        self.answers[position] = answer
        if not (isinstance(answer, CallError) and answer.is_retryable):
            del self.pending[position]


ChooseBatch = Batch[bandit_pb2.ChooseRequest, Choice]
RewardBatch = Batch[bandit_pb2.RewardRequest, RewardResult]


def choose_batch(questions: Sequence[Question]) -> ChooseBatch:
    """Return the batch of these questions.

    Raises:
        TypeError: an argument of a question has a wrong type.
        ValueError: there are more than 1,000 questions.
    """
    check_size("questions", "Question", questions)
    batch = ChooseBatch()
    for position, question in enumerate(questions):
        path = f"questions[{position}]"
        try:
            check_fallback(question.fallback, f"{path}.fallback")
            batch.pending[position] = choose_request(
                question.experiment,
                question.unit,
                question.attributes,
                question.eligible_arms,
                question.previous,
                f"{path}.",
            )
        except CallError as error:
            batch.answers[position] = error
        except AttributeError as error:
            raise wrong_type(path, question, "a Question") from error
    return batch


def reward_batch(rewards: Sequence[Reward]) -> RewardBatch:
    """Return the batch of these rewards; rewards of fallbacks are answered already.

    Raises:
        TypeError: an argument of a reward has a wrong type.
        ValueError: there are more than 1,000 rewards.
    """
    check_size("rewards", "Reward", rewards)
    batch = RewardBatch()
    for position, reward in enumerate(rewards):
        try:
            request = reward_request(
                reward.decision, reward.outcomes, reward.revision, f"rewards[{position}]."
            )
        except CallError as error:
            batch.answers[position] = error
            continue
        except AttributeError as error:
            raise wrong_type(f"rewards[{position}]", reward, "a Reward") from error
        if isinstance(request, RewardResult):
            batch.answers[position] = request
        else:
            batch.pending[position] = request
    return batch


def check_size(name: str, kind: str, items: Sequence[object]) -> None:
    """Raise TypeError if `items` has no length, and ValueError if it is more than one call may hold."""
    try:
        n_items = len(items)
    except TypeError as error:
        raise wrong_type(name, items, f"a list, each a {kind}") from error
    if n_items > MAX_BATCH:
        raise ValueError(f"a batch holds at most {MAX_BATCH:,} items, got {n_items:,}")


def batch_choose_request(batch: ChooseBatch) -> bandit_pb2.BatchChooseRequest:
    """Return one call for all that is pending."""
    return bandit_pb2.BatchChooseRequest(requests=batch.pending.values())


def batch_reward_request(batch: RewardBatch) -> bandit_pb2.BatchRewardRequest:
    """Return one call for all that is pending."""
    return bandit_pb2.BatchRewardRequest(requests=batch.pending.values())


def choices(results: Iterable[bandit_pb2.BatchChooseResult]) -> list[Choice | CallError]:
    """Return the answers to a BatchChoose."""
    return [choice_or_error(result) for result in results]


def reward_results(results: Iterable[bandit_pb2.BatchRewardResult]) -> list[RewardResult | CallError]:
    """Return the answers to a BatchReward."""
    return [_reward_result_or_error(result) for result in results]


def _reward_result_or_error(result: bandit_pb2.BatchRewardResult) -> RewardResult | CallError:
    match result.WhichOneof("result"):
        case "reward":
            return reward_result(result.reward)
        case "error":
            return from_status(result.error)
        case None:
            return malformed_error("the answer is empty")
