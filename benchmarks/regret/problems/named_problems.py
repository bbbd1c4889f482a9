"""Named problems: with a published answer, such that a bandit does not win, and checks."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from benchmarks.regret.problems.problem import Problem
from benchmarks.regret.problems.rewards import RewardKind
from benchmarks.regret.results import Anchor

_BATCH: Final = 50
_DELAY: Final = 100
_QUICK_PART: Final = 20
_QUICK_FEWEST: Final = 20
_QUICK_FEWEST_OF_PEERS: Final = 5
_PEERS: Final = (
    "thompson",
    "mabwiser-thompson",
    "river-thompson",
    "epsilon-greedy",
    "mabwiser-epsilon-greedy",
    "river-epsilon-greedy",
)
_CHAPELLE_LI: Final = {1: 9105.0, 3: 9199.0, 10: 9049.0, 32: 9451.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A problem with a name.

    Attributes:
        name: Its name on the command line.
        about: What it shows, in one line.
        problem: The problem to play.
        policies: The contestants, as on the command line.
        n_runs: Number of runs.
        n_peer_runs: Number of runs of MABWiser's policies, which are slow; river's get ten times as many.
        anchors: Label of a policy to its expected regret.
        is_default: True if it is played when no problem is named.
        quick_horizon: The horizon with --quick; None: the full one.
    """

    name: str
    about: str
    problem: Problem
    policies: tuple[str, ...] = ("thompson", "epsilon-greedy", "uniform")
    n_runs: int = 1_000
    n_peer_runs: int = 40
    anchors: Mapping[str, Anchor] = field(default_factory=dict)
    is_default: bool = True
    quick_horizon: int | None = None

    def quick(self) -> "Named":
        """Return it with a twentieth of the runs, without the published figures of another horizon."""
        shortened = replace(
            self,
            n_runs=max(_QUICK_FEWEST, self.n_runs // _QUICK_PART),
            n_peer_runs=max(_QUICK_FEWEST_OF_PEERS, self.n_peer_runs // _QUICK_PART),
        )
        if self.quick_horizon is None:
            return shortened
        problem = replace(self.problem, horizon=self.quick_horizon)
        return replace(shortened, problem=problem, anchors={})


def _chapelle_li(every: int, horizon: int) -> Problem:
    return Problem(means_beta=(4.0, 4.0), n_drawn=10, turnover=1e-3, refresh_every=every, horizon=horizon)


def _peers(name: str, about: str, *, refresh_every: int = 1, delay: int = 0) -> Named:
    means = (0.2, 0.25, 0.3)
    return Named(
        name=name,
        about=about,
        problem=Problem(means=means, horizon=1_000, refresh_every=refresh_every, delay=delay),
        policies=_PEERS,
        n_runs=4_000,
    )


_ANCHORED: Final = (
    Named(
        name="two-arms",
        about="Kaufmann, Korda & Munos 2012: .20 and .25",
        problem=Problem(means=(0.2, 0.25)),
        policies=("thompson", "epsilon-greedy", "epsilon-greedy:1:decay=100", "uniform", "split:90/10"),
    ),
    Named(
        name="ten-arms",
        about="Chapelle & Li 2011, figure 1: .5 and nine of .4",
        problem=Problem(means=(0.5, *[0.4] * 9)),
    ),
    Named(
        name="rare",
        about="Garivier & Cappé 2011: ten arms of .10 to .01",
        problem=Problem(means=(0.1, *[0.05] * 3, *[0.02] * 3, *[0.01] * 3)),
    ),
    Named(
        name="russo-van-roy",
        about="Russo & Van Roy 2014: ten arms, means uniform in (0, 1)",
        problem=Problem(means_beta=(1.0, 1.0), n_drawn=10, horizon=1_000),
        n_runs=10_000,
        anchors={"thompson": Anchor(regret=28.1, error=0.05, source="Russo & Van Roy")},
    ),
    Named(
        name="gaussian",
        about="outcomes of standard deviation 1, which the policy has to find out",
        problem=Problem(means=(0.0, 0.2, 0.5), reward=RewardKind.GAUSSIAN),
    ),
    Named(
        name="poisson",
        about="counts with means 2.0 to 2.4",
        problem=Problem(means=(2.0, 2.2, 2.4), reward=RewardKind.POISSON),
    ),
    *(
        Named(
            name=f"turnover-{every}",
            about=f"Chapelle & Li 2011, table 1, feedback every {every}, a tenth of its rounds",
            problem=_chapelle_li(every, 100_000),
            policies=("thompson",),
            n_runs=100,
            quick_horizon=10_000,
            anchors={"thompson": Anchor(regret=regret / 10, error=None, source="a tenth of Chapelle & Li's")},
        )
        for every, regret in _CHAPELLE_LI.items()
    ),
)

_NOT_WON: Final = (
    Named(
        name="short",
        about="not won: .5 against nine of .48 can't be told apart in 10,000 rounds",
        problem=Problem(means=(0.5, *[0.48] * 9)),
    ),
    Named(
        name="champion-best",
        about="not won: a 90/10 split whose champion is the best arm already",
        problem=Problem(means=(0.1, 0.09)),
        policies=("thompson", "thompson:champion-floor=0.8", "split:90/10", "uniform"),
    ),
    Named(
        name="weekend",
        about="not won: another arm is best on weekends, and both even out over a week",
        problem=Problem(means=(0.1, 0.12), weekend_means=(0.15, 0.1), rounds_per_day=357),
        policies=("thompson", "thompson:half-life=700", "uniform", "split:90/10"),
    ),
    Named(
        name="swing",
        about="both arms rise and fall by half over a week; their order stays",
        problem=Problem(means=(0.1, 0.12), weekly_swing=0.5, rounds_per_day=357),
    ),
    Named(
        name="delayed",
        about="not won: outcomes come after 8,000 of 10,000 rounds",
        problem=Problem(means=(0.2, 0.25), delay=8_000),
    ),
    Named(
        name="delayed-some",
        about="outcomes come after 500 rounds, in batches of 100",
        problem=Problem(means=(0.2, 0.25), delay=500, refresh_every=100),
    ),
    Named(
        name="switch",
        about="not won without forgetting: the arms change places half-way",
        problem=Problem(means=(0.2, 0.25), switch_at=5_000, switch_means=(0.25, 0.2)),
        policies=("thompson", "thompson:half-life=1000", "epsilon-greedy", "uniform"),
    ),
    Named(
        name="drift",
        about="means wander by .1 over the horizon",
        problem=Problem(means=(0.2, 0.25), drift=0.1),
        policies=("thompson", "thompson:half-life=2000", "epsilon-greedy", "uniform"),
    ),
)

_CHECKS: Final = (
    Named(
        name="identical",
        about="check: identical arms cost nothing, exactly",
        problem=Problem(means=(0.1,) * 5, horizon=1_000),
        policies=("thompson", "epsilon-greedy", "uniform"),
        n_runs=200,
        anchors={
            label: Anchor(regret=0.0, error=0.0, source="exact") for label in ("thompson", "epsilon-greedy")
        },
    ),
    Named(
        name="all-exploring",
        about="check: epsilon-greedy that always explores is a uniform split",
        problem=Problem(means=(0.2, 0.25, 0.3), horizon=1_000),
        policies=("epsilon-greedy:1", "uniform"),
        anchors={"epsilon-greedy:1": Anchor(regret=50.0, error=0.0, source="exact")},
    ),
)

_PEER_TABLES: Final = (
    _peers("peers", "MABWiser and river on the same problem"),
    _peers("peers-batched", f"the same, posteriors refreshed every {_BATCH} rounds", refresh_every=_BATCH),
    _peers("peers-delayed", f"the same, outcomes {_DELAY} rounds late", delay=_DELAY),
)

_LONG: Final = tuple(
    Named(
        name=f"chapelle-li-{every}",
        about=f"Chapelle & Li 2011, table 1, feedback every {every}, all of its 1,000,000 rounds",
        problem=_chapelle_li(every, 1_000_000),
        policies=("thompson",),
        n_runs=100,
        anchors={"thompson": Anchor(regret=regret, error=None, source="Chapelle & Li")},
        is_default=False,
        quick_horizon=100_000,
    )
    for every, regret in _CHAPELLE_LI.items()
)

NAMED: Final[Mapping[str, Named]] = {
    named.name: named for named in (*_ANCHORED, *_NOT_WON, *_CHECKS, *_PEER_TABLES, *_LONG)
}
"""All named problems, in the order of play."""
