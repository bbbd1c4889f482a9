"""The ledger against a plain dictionary: equal verdicts and equal facts, whatever is posted."""

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.decision_id import Basis
from bandit.facts import OutcomeKey, Tally
from server.store.contract import Store
from server.store.records import OutcomeEntry, RewardEntry
from tests.bandit.builders import SPEND
from tests.store.builders import create, some_id, sums_of
from tests.store.ledger_model import LedgerModel

N_DECISIONS = 4
N_METRICS = 3


def outcome(metric: int, number: int, *, is_late: bool) -> OutcomeEntry:
    """One of three values; those of metric 1, which is real, differ by less than what version 0.2 kept."""
    if metric != 1:
        return OutcomeEntry(metric, number, is_late)
    quanta = (0, 3 * 2**20 - 2**18, 3 * 2**20 + 7)[number]
    return OutcomeEntry(metric, quanta, is_late, SPEND.to_value(quanta), is_real=True)


@dataclass(frozen=True, slots=True)
class Post:
    """An entry before it knows the ids of its experiment and decision."""

    decision: int
    values: dict[int, tuple[int, bool]]
    revision: int
    is_expired: bool
    is_apart: bool

    def entry(self, experiment: int, ids: Sequence[bytes]) -> RewardEntry:
        """Return the entry; epoch, arm and basis are the decision's own, as in its signed id."""
        return RewardEntry(
            decision=ids[self.decision],
            experiment=experiment,
            epoch=1 + self.decision // 2,
            segment=0,
            arm=self.decision % 2,
            basis=Basis.POLICY if self.decision < 3 else Basis.FALLBACK,
            outcomes=tuple(outcome(m, q, is_late=late) for m, (q, late) in sorted(self.values.items())),
            revision=self.revision,
            received_ms=1_772_366_400_000,
            is_expired=self.is_expired,
            is_apart=self.is_apart,
        )


rarely = st.sampled_from([False] * 5 + [True])
posts = st.builds(
    Post,
    decision=st.integers(0, N_DECISIONS - 1),
    values=st.dictionaries(
        st.integers(0, N_METRICS - 1), st.tuples(st.integers(0, 2), rarely), min_size=1, max_size=N_METRICS
    ),
    revision=st.integers(0, 3),
    is_expired=rarely,
    is_apart=rarely,
)
# Half of the examples repeat a few posts, since handling retries is the ledger's purpose.
entries_of_a_batch = st.lists(posts, max_size=8) | st.lists(posts, min_size=1, max_size=3).flatmap(
    lambda pool: st.lists(st.sampled_from(pool), max_size=8)
)
batches = st.lists(entries_of_a_batch, min_size=1, max_size=4)


def outcomes_of(store: Store, number: int) -> dict[OutcomeKey, Tally]:
    """Return the outcome facts of an experiment that are not zero."""
    found = store.read_facts(number)
    assert found is not None
    return {key: tally for key, tally in found.facts.outcomes.items() if any(tally)}


def test_the_ledger_is_the_model(store: Store) -> None:
    """Any batches get the model's verdicts, and leave the model's facts; repeated, they add nothing.

    Each example has its own experiment and decisions, so that all of them can share one store.
    """
    numbers: list[int] = []

    @settings(max_examples=120)
    @given(batches=batches)
    def check(batches: list[list[Post]]) -> None:
        number = create(store, f"e-{len(numbers)}").number
        numbers.append(number)
        ids = [some_id() for _ in range(N_DECISIONS)]
        model = LedgerModel()
        for slot, batch in enumerate(batches):
            entries = [post.entry(number, ids) for post in batch]
            expected = [model.record(entry) for entry in entries]
            assert store.record_rewards(entries, slot % 2) == expected
        assert outcomes_of(store, number) == model.facts()

    check()
    sums_of(store)
    assert len(numbers) >= 80


def test_batches_do_not_matter(store: Store) -> None:
    """The same entries in the same order, in one batch or each in its own, get the same answers."""

    @settings(max_examples=60)
    @given(entries=entries_of_a_batch)
    def check(entries: list[Post]) -> None:
        together, apart = (create(store, f"e-{some_id().hex()}").number for _ in range(2))
        ids = [[some_id() for _ in range(N_DECISIONS)] for _ in range(2)]
        verdicts = store.record_rewards([post.entry(together, ids[0]) for post in entries], 0)
        alone = [store.record_rewards([post.entry(apart, ids[1])], 0)[0] for post in entries]
        assert verdicts == alone
        expected = {
            key._replace(experiment=apart): tally for key, tally in outcomes_of(store, together).items()
        }
        assert outcomes_of(store, apart) == expected

    check()
    sums_of(store)
