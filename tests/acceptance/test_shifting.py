"""The service's promise: traffic moves to the better arm, and every number about it is correct."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import pytest
from scipy.stats import chi2

from bandit.v1 import bandit_pb2, experiment_pb2
from tests.support.ledger import stored_epochs
from tests.support.process import ServerProcess, eventually, serving
from tests.support.wire import Wire

RATES: Final[Mapping[str, float]] = {"v1": 0.02, "v2": 0.1, "v3": 0.05}
N_DECISIONS: Final = 10_000
WAVE: Final = 200
FALSE_ALARMS: Final = 1e-6
"""The false-alarm rate of each statistical test here."""


class Run:
    """The answers to 10,000 visitors, and their rewards."""

    def __init__(self, server: ServerProcess, wire: Wire, name: str) -> None:
        self.server = server
        self.wire = wire
        self.name = name
        self.choices: list[bandit_pb2.ChooseResponse] = []
        self.clicks: Counter[str] = Counter()

    def send_wave(self, generator: random.Random) -> None:
        """Choose for a wave of visitors, then reward each."""
        first = len(self.choices)
        requests = [
            bandit_pb2.ChooseRequest(experiment=self.name, unit=f"visitor-{first + number}")
            for number in range(WAVE)
        ]
        choices = [result.choice for result in self.wire.batch_choose(*requests)]
        rewards = []
        for choice in choices:
            is_click = generator.random() < RATES[choice.arm]
            self.clicks[choice.arm] += is_click
            rewards.append(
                bandit_pb2.RewardRequest(decision_id=choice.decision_id, outcomes={"click": is_click})
            )
        results = self.wire.batch_reward(*rewards)
        recorded = {"click": bandit_pb2.OUTCOME_RESULT_RECORDED}
        assert all(dict(result.reward.results) == recorded for result in results)
        self.choices += choices


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Make 10,000 decisions on arms of .02, .1 and .05, through a separate server."""
    flags = ("--epoch-interval-seconds", "0.02")
    with serving(tmp_path_factory.mktemp("shifting") / "bandit.db", *flags) as server:
        wire = Wire(server.address)
        arms = [experiment_pb2.Arm(id=arm) for arm in RATES]
        limits = experiment_pb2.Limits(minimum_share=0.02)
        name = wire.running(arms=arms, champion="v1", limits=limits, salt="5eed" * 8)
        run = Run(server, wire, name)
        generator = random.Random(20_260_101)
        while len(run.choices) < N_DECISIONS:
            run.send_wave(generator)
        yield run
        wire.close()


def test_most_traffic_ends_on_the_best_arm(run: Run) -> None:
    """Most of the last tenth of the visitors, and most of the current share, go to the best arm.

    A service that does not learn sends a third of them there; one that learns distinguishes .1 from .05 after
    some hundred visitors to each, so the test is far from its limits.
    """
    last = Counter(choice.arm for choice in run.choices[-N_DECISIONS // 10 :])
    assert last["v2"] > 0.7 * N_DECISIONS / 10
    report = run.wire.report(run.name)
    shares = {arm.arm: arm.share for arm in report.arms}
    assert shares["v2"] > 0.7
    assert shares == report.epochs[-1].shares
    (in_force,) = [
        epoch.shares
        for epoch in stored_epochs(run.server.database, run.name)
        if epoch.number == report.epochs[-1].number
    ]
    assert shares == in_force
    assert Counter(choice.arm for choice in run.choices)["v2"] > N_DECISIONS / 2


def test_every_propensity_is_the_stored_share(run: Run) -> None:
    """The propensity in the answer exactly equals the stored share of the arm in its epoch."""
    stored = {epoch.number: epoch.shares for epoch in stored_epochs(run.server.database, run.name)}
    answered = {(choice.epoch, choice.arm, choice.propensity) for choice in run.choices}
    assert answered <= {
        (number, arm, share) for number, shares in stored.items() for arm, share in shares.items()
    }
    assert (
        len({epoch for epoch, _, _ in answered}) >= 3
    )  # otherwise shares did not move, and the test is weak
    assert {choice.reason for choice in run.choices} == {bandit_pb2.REASON_POLICY}


def test_assignment_is_proportional(run: Run) -> None:
    """Over all epochs, each arm got visitors in proportion to its shares.

    Given the epoch, a visitor's arm is drawn with the epoch's shares p, independently of the past. So counts
    minus expectations, summed over visitors, are a martingale D with the conditional covariance
    V = sum of n_e (diag(p_e) - p_e p_e') over epochs. By the martingale central limit theorem, D' V^- D is
    chi-square with (arms - 1) degrees of freedom. Visitors are all different; otherwise a hash would count
    twice.
    """
    stored = {epoch.number: epoch.shares for epoch in stored_epochs(run.server.database, run.name)}
    by_epoch: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for choice in run.choices:
        by_epoch[choice.epoch][choice.arm] += 1
    arms = list(RATES)
    difference, covariance = np.zeros(len(arms)), np.zeros((len(arms), len(arms)))
    for number, counts in by_epoch.items():
        shares = np.array([stored[number][arm] for arm in arms])
        observed = np.array([counts[arm] for arm in arms])
        difference += observed - observed.sum() * shares
        covariance += observed.sum() * (np.diag(shares) - np.outer(shares, shares))
    statistic = float(difference @ np.linalg.pinv(covariance) @ difference)
    assert statistic < chi2.isf(FALSE_ALARMS, len(arms) - 1)


@pytest.mark.parametrize("has_units", [True, False])
def test_ninety_ten_is_served_as_ninety_ten(shared_wire: Wire, has_units: bool) -> None:  # noqa: FBT001 - a parameter
    """20,000 decisions are split in proportion to the weights, with units' hashes and by chance.

    The count of the smaller arm is binomial, so its squared standard score is chi-square with one degree of
    freedom. A split of 94/6, as from weight times hash, would be 19 standard deviations off.
    """
    weights = {"a": 0.9, "b": 0.1}
    split = experiment_pb2.Policy(static_split=experiment_pb2.StaticSplit(weights=weights))
    name = shared_wire.running(policy=split, salt="0ddba11e" * 4)
    n_smaller = 0
    for wave in range(20):
        requests = [
            bandit_pb2.ChooseRequest(experiment=name, unit=f"{wave}/{number}" if has_units else "")
            for number in range(1_000)
        ]
        n_smaller += sum(result.choice.arm == "b" for result in shared_wire.batch_choose(*requests))
    score = (n_smaller - 2_000) / (20_000 * 0.9 * 0.1) ** 0.5
    assert score**2 < chi2.isf(FALSE_ALARMS, 1)


def test_shares_keep_to_their_limits(run: Run) -> None:
    """In every epoch, shares sum to 1 and no arm is below its floor."""
    for epoch in stored_epochs(run.server.database, run.name):
        assert sum(epoch.shares.values()) == pytest.approx(1, abs=1e-9)
        assert epoch.shares.keys() == RATES.keys()
        assert min(epoch.shares.values()) >= 0.02 - 1e-12


def test_the_report_is_what_happened(run: Run) -> None:
    """Decisions, outcomes and means of each arm equal those that the client saw."""
    n_chosen = Counter(choice.arm for choice in run.choices)
    report = eventually(
        lambda: run.wire.report(run.name),
        until=lambda report: sum(arm.decisions.policy for arm in report.arms) >= N_DECISIONS,
    )
    for arm in report.arms:
        (click,) = arm.metrics
        assert arm.decisions == experiment_pb2.DecisionCounts(policy=n_chosen[arm.arm])
        assert click.outcomes == click.observations == n_chosen[arm.arm]
        assert click.mean == pytest.approx(run.clicks[arm.arm] / n_chosen[arm.arm], rel=1e-12)
        assert click.interval.lower < click.mean < click.interval.upper
    best = {arm.arm: arm.probability_best for arm in report.arms}
    assert sum(best.values()) == pytest.approx(1, abs=1e-9)
    assert max(best, key=lambda arm: best[arm]) == "v2"


def test_epochs_are_few(run: Run) -> None:
    """Shares are recomputed often but only stored when they move, so the history stays short."""
    epochs = stored_epochs(run.server.database, run.name)
    assert [epoch.number for epoch in epochs] == list(range(1, len(epochs) + 1))
    assert [epoch.started_at for epoch in epochs] == sorted(epoch.started_at for epoch in epochs)
    assert len(epochs) < 500
