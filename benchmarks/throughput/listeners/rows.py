"""What is compared: calls, the subjects that take them, and what is required of each pair."""

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.harness.experiments import named
from benchmarks.harness.workloads import BatchChooses, Chooses, Rewards, StreamedChooses, Workload
from benchmarks.throughput.cases import N_ARMS
from benchmarks.throughput.listeners.prepared import Deadline
from benchmarks.throughput.listeners.runs import Shape

N_MANY: Final = 200
_MOST_REWARDS: Final = 20_000
"""For one turn; the clock stops when they are used up."""

_FEW_CONNECTIONS: Final = Shape(n_connections=8, n_in_flight=8)
_MANY_CONNECTIONS: Final = Shape(n_connections=64, n_in_flight=1)


class Name(enum.StrEnum):
    """The subjects."""

    DEFAULT = "default listener"
    FAST = "fast lane"
    AIO_ECHO = "grpc.aio echo"
    GO_ECHO = "grpc-go echo"
    DEFAULT_TLS = "default listener, TLS"
    FAST_TLS = "fast lane, TLS"
    DEFAULT_KNOWING = "default listener, token"
    FAST_KNOWING = "fast lane, token"


class Measure(enum.StrEnum):
    """What a goal is about."""

    RATE = "calls a second"
    CPU = "CPU a call"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A ratio of two subjects in one row, with or without a limit.

    Attributes:
        measure: What is compared.
        of: The subject above the line of the fraction.
        to: The subject below it.
        least: The least ratio that is good; None: there is no least.
        most: The greatest ratio that is good; None: there is no greatest.
    """

    measure: Measure
    of: Name
    to: Name
    least: float | None = None
    most: float | None = None

    def is_met(self, ratio: float) -> bool:
        """True if a ratio is within the limit."""
        return (self.least is None or ratio >= self.least) and (self.most is None or ratio <= self.most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of call.

    Attributes:
        title: The method called.
        setting: Arms, experiments, and what else is special.
        workload: The requests sent.
        shape: How they are sent.
        subjects: Who takes them, in the order of their turns.
        goals: What is required.
        deadline: What callers say about their deadlines.
    """

    title: str
    setting: str
    workload: Workload
    shape: Shape
    subjects: Sequence[Name]
    goals: Sequence[Goal] = ()
    deadline: Deadline = Deadline.NONE


def _rate_goal(least: float) -> Goal:
    return Goal(measure=Measure.RATE, of=Name.FAST, to=Name.DEFAULT, least=least)


_LISTENERS: Final = (Name.DEFAULT, Name.FAST)
_ALL: Final = (*_LISTENERS, Name.AIO_ECHO, Name.GO_ECHO)
_CPU_BESIDE_GO: Final = Goal(measure=Measure.CPU, of=Name.FAST, to=Name.GO_ECHO, most=3.0)
_CPU_SAVED: Final = Goal(measure=Measure.CPU, of=Name.DEFAULT, to=Name.FAST)
"""As the ratio of rates if only the server's CPU limits them: other load on the machine changes it less."""

_CHOOSE_GOALS: Final = (_rate_goal(8.0), _CPU_SAVED, _CPU_BESIDE_GO)


def one_of_each() -> dict[int, Sequence[str]]:
    """Map number of arms to names: one experiment of each."""
    return {n_arms: named(n_arms, 1) for n_arms in N_ARMS}


def many_of_each() -> dict[int, Sequence[str]]:
    """Map number of arms to names: 200 experiments of each."""
    return {n_arms: named(n_arms, N_MANY) for n_arms in N_ARMS}


def choose_rows(names_of_arms: Mapping[int, Sequence[str]]) -> Iterator[Row]:
    """Yield Choose at each number of arms, and from many connections."""
    for n_arms, names in names_of_arms.items():
        yield _choose_row(names, n_arms, _FEW_CONNECTIONS)
    yield _choose_row(names_of_arms[10], 10, _MANY_CONNECTIONS)


def deadline_rows(names: Sequence[str]) -> Iterator[Row]:
    """Yield Choose with deadlines that are equal, and with such that change on each call."""
    for deadline in (Deadline.EQUAL, Deadline.CHANGING):
        yield Row(
            title="Choose",
            setting=deadline.value,
            workload=Chooses(experiments=names, has_unit=True),
            shape=_FEW_CONNECTIONS,
            subjects=_ALL,
            goals=_CHOOSE_GOALS,
            deadline=deadline,
        )


def other_rows(names: Sequence[str]) -> Iterator[Row]:
    """Yield ChooseStream, batches of Choose, and rewards, with 10 arms."""
    yield Row(
        title="ChooseStream",
        setting="10 arms, a stream a connection",
        workload=StreamedChooses(experiments=names),
        shape=Shape(n_connections=8, n_in_flight=8, is_stream=True),
        subjects=_ALL,
        goals=(_rate_goal(6.0), _CPU_SAVED),
    )
    yield Row(
        title="BatchChoose(1,000)",
        setting="10 arms",
        workload=BatchChooses(experiments=names),
        shape=Shape(n_connections=4, n_in_flight=1),
        subjects=_LISTENERS,
        goals=(_CPU_SAVED,),
    )
    for n_connections, n_in_flight in ((8, 8), (64, 1)):
        yield Row(
            title="Reward",
            setting="10 arms, durable",
            workload=Rewards(experiments=names, n_calls=_MOST_REWARDS),
            shape=Shape(n_connections=n_connections, n_in_flight=n_in_flight, is_once=True),
            subjects=_LISTENERS,
            goals=(_rate_goal(4.0), _CPU_SAVED),
        )


def secured_rows(names: Sequence[str]) -> Iterator[Row]:
    """Yield Choose through TLS, and with tokens, beside the same without."""
    with_tls = Name.FAST, Name.FAST_TLS, Name.DEFAULT, Name.DEFAULT_TLS
    with_token = Name.FAST, Name.FAST_KNOWING, Name.DEFAULT, Name.DEFAULT_KNOWING
    goal = Goal(measure=Measure.CPU, of=Name.FAST_TLS, to=Name.FAST, most=4 / 3)
    for setting, subjects, goals in (("TLS", with_tls, (goal,)), ("token", with_token, ())):
        yield Row(
            title="Choose",
            setting=f"10 arms, {setting}",
            workload=Chooses(experiments=names, has_unit=True),
            shape=_FEW_CONNECTIONS,
            subjects=subjects,
            goals=goals,
        )


def _choose_row(names: Sequence[str], n_arms: int, shape: Shape) -> Row:
    experiments = "1 experiment" if len(names) == 1 else f"{len(names)} experiments"
    return Row(
        title="Choose",
        setting=f"{n_arms} arms, {experiments}",
        workload=Chooses(experiments=names, has_unit=True),
        shape=shape,
        subjects=_ALL,
        goals=_CHOOSE_GOALS,
    )
