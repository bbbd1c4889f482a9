"""What the command line says, made into problems and contestants."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import click

from bandit.policies import ThompsonSampling
from benchmarks.regret.blocks import Entrant
from benchmarks.regret.players.contestants import Contestant, parse_contestant
from benchmarks.regret.players.peers import PEERS, parse_peer
from benchmarks.regret.problems.problem import Problem, ProblemError
from benchmarks.regret.problems.rewards import RewardKind

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])
Options: TypeAlias = Mapping[str, Any]
"""What click has read, by parameter."""

MOST_RUNS: Final = 1_000_000
_N_BETA: Final = 2


class OneLineCommand(click.Command):
    """A command whose errors are one line: the option and its rule, without the usage before it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the arguments."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = None
            raise


class OptionError(click.ClickException):
    """An option that can't be used; one line on standard error and exit code 2."""

    exit_code = 2


def _numbers(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[float, ...] | None:
    """Numbers with commas between them."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        rule = f"{text!r} must be numbers with commas between them, such as 0.2,0.25"
        raise click.BadParameter(rule, context, parameter) from None


def _numbers_option(name: str, explanation: str) -> Callable[[FunctionT], FunctionT]:
    return click.option(name, metavar="NUMBER,...", callback=_numbers, help=explanation)


_OPTIONS: Final = (
    _numbers_option("--means", "What each arm is worth, such as 0.2,0.25."),
    click.option("--arms", type=int, default=0, help="How many arms --means-beta draws."),
    _numbers_option("--means-beta", "Draw each run's means from this Beta, such as 1,1."),
    click.option(
        "--reward",
        type=click.Choice([kind.value for kind in RewardKind]),
        default=RewardKind.BERNOULLI.value,
        show_default=True,
        help="The distribution of outcomes.",
    ),
    click.option("--sd", type=float, default=1.0, show_default=True, help="Of Gaussian outcomes."),
    click.option("--horizon", type=int, default=10_000, show_default=True, help="Rounds of a run."),
    click.option(
        "--refresh-every", type=int, default=1, show_default=True, help="Rounds between looks at outcomes."
    ),
    click.option(
        "--delay", type=int, default=0, show_default=True, help="Further rounds until an outcome is known."
    ),
    click.option(
        "--champion",
        type=int,
        default=0,
        show_default=True,
        metavar="INDEX",
        help="The arm in production, counted from 0: the first weight of a split is its.",
    ),
    click.option(
        "--drift", type=float, default=0.0, help="Means wander: the walk's standard deviation at the end."
    ),
    click.option(
        "--switch-at", type=int, metavar="ROUND", help="From this round on arms change their worth."
    ),
    _numbers_option("--switch-means", "... to this; not given: in reverse order."),
    _numbers_option("--weekend-means", "What arms are worth on two days of seven."),
    click.option(
        "--weekly-swing", type=float, default=0.0, help="All means rise and fall by this part over a week."
    ),
    click.option("--rounds-per-day", type=int, default=500, show_default=True, help="How long a day is."),
    click.option(
        "--turnover",
        type=float,
        default=0.0,
        help="Probability, a round, that an arm is replaced by a new one.",
    ),
)
_CONTESTANTS: Final = (
    click.option(
        "--policies",
        default="thompson,epsilon-greedy,uniform",
        show_default=True,
        help="Who plays; see below.",
    ),
    click.option("--peers", is_flag=True, help="Let MABWiser's and river's policies play, too."),
    click.option("--half-life", type=float, help="Rounds after which an outcome weighs half."),
    click.option("--floor", type=float, default=0.0, help="The least share of every arm."),
    click.option("--champion-floor", type=float, help="The least share of the champion."),
)

PROBLEM_OPTIONS: Final = frozenset(
    (
        *("means", "arms", "means_beta", "reward", "sd", "horizon", "refresh_every", "delay", "champion"),
        *(
            "drift",
            "switch_at",
            "switch_means",
            "weekend_means",
            "weekly_swing",
            "rounds_per_day",
            "turnover",
        ),
        *("half_life", "floor", "champion_floor", "policies", "peers", "through_server"),
    )
)
"""Parameters that say what is played: they make no sense beside a named problem."""


def problem_options(function: FunctionT) -> FunctionT:
    """Adds the options of a problem to a command."""
    for option in reversed((*_OPTIONS, *_CONTESTANTS)):
        function = option(function)
    return function


def read_problem(options: Options) -> Problem:
    """The problem that the options describe.

    Raises:
        OptionError: there is none like that.
    """
    means = options["means"] or ()
    beta = options["means_beta"]
    if beta is not None and len(beta) != _N_BETA:
        raise OptionError("--means-beta must be two positive numbers, such as 4,4")
    switched = options["switch_means"]
    if options["switch_at"] is not None and switched is None:
        switched = tuple(reversed(means))
    try:
        return Problem(
            means=means,
            means_beta=beta,
            n_drawn=options["arms"],
            reward=RewardKind(options["reward"]),
            standard_deviation=options["sd"],
            horizon=options["horizon"],
            refresh_every=options["refresh_every"],
            delay=options["delay"],
            champion=options["champion"],
            drift=options["drift"],
            switch_at=options["switch_at"],
            switch_means=switched or (),
            weekend_means=options["weekend_means"],
            weekly_swing=options["weekly_swing"],
            rounds_per_day=options["rounds_per_day"],
            turnover=options["turnover"],
        )
    except ProblemError as error:
        raise OptionError(str(error)) from error


def read_entrants(text: str, problem: Problem, options: Options) -> tuple[Entrant, ...]:
    """The contestants that the options name.

    Raises:
        OptionError: one of them is none, or can't play this problem.
    """
    half_life = options["half_life"]
    if half_life is not None and not (math.isfinite(half_life) and half_life > 0):
        raise OptionError(f"--half-life must be positive and finite, got {half_life:g}")
    defaults = Contestant(
        label="",
        policy=ThompsonSampling(),
        floor=options["floor"],
        champion_floor=options["champion_floor"],
        half_life=half_life,
    )
    labels = [label.strip() for label in text.split(",")]
    if options["peers"]:
        labels += [name for name in PEERS if name not in labels]
    return parse_entrants(labels, problem, defaults)


def parse_entrants(
    labels: Sequence[str], problem: Problem, defaults: Contestant | None = None
) -> tuple[Entrant, ...]:
    """Contestants from their labels.

    Raises:
        OptionError: one of them is none, or can't play this problem.
    """
    if len(set(labels)) < len(labels):
        raise OptionError("--policies must not name a policy twice")
    try:
        return tuple(
            parse_peer(label, problem) or parse_contestant(label, problem, defaults) for label in labels
        )
    except ProblemError as error:
        raise OptionError(str(error)) from error
