"""Options of the command line, and the problems and contestants that they describe."""

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
"""Parameter name to the value that click has read."""

MOST_RUNS: Final = 1_000_000
_N_BETA: Final = 2


class OneLineCommand(click.Command):
    """A command whose errors are one line with the option and its rule, without usage text."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = None
            raise


class OptionError(click.ClickException):
    """Invalid option; one line on standard error and exit code 2."""

    exit_code = 2


def _numbers(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[float, ...] | None:
    """Parse numbers separated by commas."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        rule = f"must be numbers separated by commas, such as 0.2,0.25, got {text!r}"
        raise click.BadParameter(rule, context, parameter) from None


def _numbers_option(name: str, explanation: str) -> Callable[[FunctionT], FunctionT]:
    return click.option(name, metavar="NUMBER,...", callback=_numbers, help=explanation)


_OPTIONS: Final = (
    _numbers_option("--means", "Mean of each arm, such as 0.2,0.25."),
    click.option("--arms", type=int, default=0, help="Number of arms with --means-beta."),
    _numbers_option("--means-beta", "Draw each run's means from this Beta, such as 1,1."),
    click.option(
        "--reward",
        type=click.Choice([kind.value for kind in RewardKind]),
        default=RewardKind.BERNOULLI.value,
        show_default=True,
        help="Distribution of outcomes.",
    ),
    click.option(
        "--sd", type=float, default=1.0, show_default=True, help="Standard deviation of Gaussian outcomes."
    ),
    click.option("--horizon", type=int, default=10_000, show_default=True, help="Rounds per run."),
    click.option(
        "--refresh-every", type=int, default=1, show_default=True, help="Rounds between posterior updates."
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
        help="Index of the arm in production, from 0; a split's first weight is for it.",
    ),
    click.option(
        "--drift", type=float, default=0.0, help="Standard deviation of each mean's random walk at the end."
    ),
    click.option("--switch-at", type=int, metavar="ROUND", help="Round from which --switch-means hold."),
    _numbers_option("--switch-means", "Means after the switch.  [default: --means in reverse order]"),
    _numbers_option("--weekend-means", "Means on two days of seven."),
    click.option(
        "--weekly-swing",
        type=float,
        default=0.0,
        help="Part in [0, 1] by which all means rise and fall over a week.",
    ),
    click.option("--rounds-per-day", type=int, default=500, show_default=True, help="Rounds per day."),
    click.option(
        "--turnover",
        type=float,
        default=0.0,
        help="Probability, in each round, that a new arm replaces one.",
    ),
)
_CONTESTANTS: Final = (
    click.option(
        "--policies",
        default="thompson,epsilon-greedy,uniform",
        show_default=True,
        help="Policies to play; see below.",
    ),
    click.option("--peers", is_flag=True, help="Also play MABWiser's and river's policies."),
    click.option("--half-life", type=float, help="Rounds after which an outcome counts half."),
    click.option("--floor", type=float, default=0.0, help="Minimum share of every arm."),
    click.option("--champion-floor", type=float, help="Minimum share of the champion."),
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
"""Parameters that describe a problem, and so do not apply to named problems."""


def problem_options(function: FunctionT) -> FunctionT:
    """Add the options of a problem to a command."""
    for option in reversed((*_OPTIONS, *_CONTESTANTS)):
        function = option(function)
    return function


def read_problem(options: Options) -> Problem:
    """Return the problem that the options describe.

    Raises:
        OptionError: An option is outside its range, or contradicts another.
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
    """Return the contestants that the options name.

    Raises:
        OptionError: A label names no contestant, or one that can't play this problem.
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
    """Parse the labels of contestants.

    Raises:
        OptionError: A label names no contestant, or one that can't play this problem.
    """
    if len(set(labels)) < len(labels):
        raise OptionError("--policies must name each policy only once")
    try:
        return tuple(
            parse_peer(label, problem) or parse_contestant(label, problem, defaults) for label in labels
        )
    except ProblemError as error:
        raise OptionError(str(error)) from error
