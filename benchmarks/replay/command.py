"""On real input: `python -m benchmarks.replay` lets the service learn which of ten films people like.

Arms are the ten most-rated films of MovieLens-100k, the reward is a rating of at least 4, and the replay
method (see `method.py`) turns ratings into what the policy would have earned. Events go in waves: a
BatchChoose for each wave, then a BatchReward for those of its events that count, so the server learns along
the way as its epochs follow. No unit is named, so chance draws each arm from the epoch's shares: replay needs
independent decisions, and a unit would get the same arm at each of its events. The metric has no window, so
outcomes count at once, and silence (the skipped events) for nothing.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bandit.client import BanditClient, CallError, Fallback, OutcomeResult, Question, Reward
from bandit.v1 import experiment_pb2 as pb
from benchmarks.harness.console import console
from benchmarks.harness.processes import ChildError, serving, verify
from benchmarks.replay.method import Event, Tally, resampled
from benchmarks.replay.movielens import DataUnavailableError, Film, fetch, most_rated
from benchmarks.replay.tables import print_replay
from server.cli.framework.progress import ending_on_sigterm

N_FILMS: Final = 10
NAME: Final = "films"
METRIC: Final = "liked"
_WAVE: Final = 50
_N_EPOCHS_SHOWN: Final = 10
_MOST_FLUSHES: Final = 20
_FLUSH_SECONDS: Final = 0.5
_CALL_SECONDS: Final = 30.0
_FALLBACK: Final = Fallback("none")
_EPOCH_INTERVAL: Final = "0.05"
"""Seconds between looks at the shares: replay packs days of traffic into a minute."""


class ReplayError(Exception):
    """The service gave a wrong answer; the text describes it."""


@click.command()
@click.option("--events", type=click.IntRange(1_000, 10_000_000), default=100_000, show_default=True)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures there."
)
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Seed of the events; the server uses its own."
)
@ending_on_sigterm()
def main(*, events: int, json_file: Path | None, seed: int) -> None:
    """Replay MovieLens-100k through Choose and Reward, and print the gain over a uniform split."""
    try:
        films = most_rated(fetch(), N_FILMS)
        with TemporaryDirectory(prefix="bandit-replay-") as scratch:
            folder = Path(scratch)
            began = time.perf_counter()
            tally, report = _replay(folder, films, events, seed)
            seconds = time.perf_counter() - began
            verdict = verify(folder)
    except (DataUnavailableError, ChildError, ReplayError, CallError) as error:
        raise click.ClickException(str(error)) from error
    print_replay(films, tally, report, console())
    print(f"\n{tally.n_events:,} events in {seconds:.0f} s. verify: {verdict}")
    if json_file is not None:
        document = _document(films, tally, report, seconds, verdict)
        json_file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _replay(folder: Path, films: Sequence[Film], n_events: int, seed: int) -> tuple[Tally, pb.Report]:
    """Replay, and return what was seen here and what the server reports."""
    tally = Tally()
    with (
        serving(folder, "--epoch-interval-seconds", _EPOCH_INTERVAL) as server,
        BanditClient(server.address, batch_choose_timeout=_CALL_SECONDS) as client,
        _progress() as progress,
    ):
        client.experiments.create(_declaration(films))
        client.experiments.start(NAME)
        task = progress.add_task("replaying events", total=n_events)
        events = resampled(films, n_events, seed)
        while wave := list(islice(events, _WAVE)):
            _replay_wave(client, wave, tally)
            progress.advance(task, len(wave))
        report = _report_on(client, n_events)
    _require_agreement(tally, report)
    return tally, report


def _replay_wave(client: BanditClient, wave: Sequence[Event], tally: Tally) -> None:
    choices = client.batch_choose([Question(experiment=NAME, fallback=_FALLBACK)] * len(wave))
    rewards = []
    for event, choice in zip(wave, choices, strict=True):
        if choice.is_fallback:
            raise ReplayError(f"Choose failed: {choice.fallback_cause}")
        if tally.add(event, choice.arm):
            rewards.append(Reward(choice, {METRIC: float(event.reward)}))
    for result in client.batch_reward(rewards) if rewards else ():
        if isinstance(result, CallError):
            raise result
        if result.metric_to_result[METRIC] is not OutcomeResult.RECORDED:
            raise ReplayError(f"a new reward was answered with {result.metric_to_result[METRIC]}")


def _report_on(client: BanditClient, n_decisions: int) -> pb.Report:
    """Return the report, once the server has flushed its decision counts, about once a second."""
    for _ in range(_MOST_FLUSHES):
        report = client.experiments.report(NAME, max_epochs=_N_EPOCHS_SHOWN)
        n_counted = sum(arm.decisions.policy for arm in report.arms)
        if n_counted == n_decisions:
            return report
        time.sleep(_FLUSH_SECONDS)
    raise ReplayError(f"the report counts {n_counted:,} decisions of {n_decisions:,}")


def _declaration(films: Sequence[Film]) -> pb.Experiment:
    return pb.Experiment(
        name=NAME,
        description="Which of the ten most-rated films of MovieLens-100k do people like?",
        arms=[pb.Arm(id=film.arm) for film in films],
        champion=films[0].arm,
        metrics=[pb.Metric(name=METRIC, kind=pb.METRIC_KIND_BINARY)],
        reward_metric=METRIC,
    )


def _require_agreement(tally: Tally, report: pb.Report) -> None:
    """Raise ReplayError if the server counted other outcomes than were acknowledged."""
    counted = {arm.arm: arm.metrics[0].outcomes for arm in report.arms}
    expected = {arm.arm: tally.matched[arm.arm] for arm in report.arms}
    if counted != expected:
        raise ReplayError(f"the report counts {counted}, but {expected} was acknowledged")


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show a bar on standard error, if that is a terminal."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    errors = console(stderr=True)
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        yield progress


def _document(
    films: Sequence[Film], tally: Tally, report: pb.Report, seconds: float, verdict: str
) -> dict[str, object]:
    share = {arm.arm: arm.share for arm in report.arms}
    return {
        "n_events": tally.n_events,
        "n_matched": tally.n_matched,
        "n_epochs": report.n_epochs,
        "seconds": seconds,
        "verify": verdict,
        "gain": asdict(tally.gain()),
        "arms": [
            {
                "arm": film.arm,
                "share": share[film.arm],
                "n_matched": tally.matched[film.arm],
                "n_good": tally.matched_good[film.arm],
                "logged_mean": film.mean,
            }
            for film in films
        ],
        "epochs": [{"number": epoch.number, "shares": dict(epoch.shares)} for epoch in report.epochs],
    }
