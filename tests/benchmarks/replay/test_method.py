"""The replay method: which events count, and how accurate the gain's standard error is."""

import math
import random
from statistics import mean, stdev

import pytest

from benchmarks.replay.method import Event, Gain, Tally, resampled
from benchmarks.replay.movielens import Film, arm_id

FILMS = (
    Film(arm="good", title="Good", rewards=(1, 1, 1, 0)),
    Film(arm="bad", title="Bad", rewards=(0, 0, 0, 1)),
)


def replay(n_events: int, seed: int, share_of_good: float) -> Tally:
    """A replay of a policy whose shares never change."""
    generator = random.Random(-seed - 1)
    tally = Tally()
    for event in resampled(FILMS, n_events, seed):
        tally.add(event, "good" if generator.random() < share_of_good else "bad")
    return tally


def test_only_events_of_the_chosen_arm_count() -> None:
    """Other events enter only the uniform mean."""
    tally = Tally()
    assert tally.add(Event("good", 1), "good")
    assert not tally.add(Event("bad", 0), "good")
    assert (tally.n_events, tally.n_matched, tally.n_good) == (2, 1, 1)
    assert tally.matched == {"good": 1}


def test_events_are_the_same_for_a_seed() -> None:
    """A replay with the same seed draws the same events."""
    assert list(resampled(FILMS, 100, 7)) == list(resampled(FILMS, 100, 7))
    assert list(resampled(FILMS, 100, 7)) != list(resampled(FILMS, 100, 8))


def test_events_are_uniform_over_arms() -> None:
    """Events are uniform however many ratings an arm has; a count off by 5.1 deviations has p = 3e-7."""
    n_events = 40_000
    films = (*FILMS, Film(arm="rare", title="Rare", rewards=(1,)))
    for film in films:
        n_found = sum(event.arm == film.arm for event in resampled(films, n_events, 3))
        assert abs(n_found - n_events / 3) < 5.1 * math.sqrt(n_events * (1 / 3) * (2 / 3))


def test_the_gain_is_found_within_its_error() -> None:
    """A policy that gives 90 % to the arm of 0.75 and 10 % to that of 0.25 gains 0.2 over the mean of 0.5."""
    gain = replay(100_000, 5, 0.9).gain()
    assert abs(gain.gain - 0.2) < 5.1 * gain.standard_error


def test_the_standard_error_is_not_understated() -> None:
    """Over 400 replays the gains scatter no more than their standard error predicts.

    The scatter of 400 normal draws exceeds their own standard deviation by a factor of 1.18 with a chance of
    4e-7 (chi-square of 399 degrees), and the stated error bounds the true one from above.
    """
    gains = [replay(2_000, seed, 0.9).gain() for seed in range(400)]
    assert stdev(gain.gain for gain in gains) < 1.18 * mean(gain.standard_error for gain in gains)
    assert stdev(gain.gain for gain in gains) > 0.7 * mean(gain.standard_error for gain in gains)


@pytest.mark.parametrize("n_matched", [0, 10])
def test_a_gain_needs_both_kinds_of_events(n_matched: int) -> None:
    """A gain needs events that counted and events that did not."""
    with pytest.raises(ValueError, match="nothing to compare"):
        Gain.of(n_matched, 0, 10, 5)


@pytest.mark.parametrize(
    ("title", "expected"),
    [("Star Wars", "star-wars"), ("English Patient, The", "english-patient-the"), ("Amélie!", "am-lie")],
)
def test_titles_become_arm_ids(title: str, expected: str) -> None:
    """Whatever a title contains, its id matches the pattern of ids."""
    assert arm_id(title) == expected
