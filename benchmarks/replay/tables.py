"""The output of a replay."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bandit.v1 import experiment_pb2 as pb
from benchmarks.harness.console import plain_table
from benchmarks.replay.method import Tally
from benchmarks.replay.movielens import Film


def print_replay(films: Sequence[Film], tally: Tally, report: pb.Report, out: Console) -> None:
    """Print reward by arm, shares over time, and the gain."""
    matched = (
        f"{tally.n_matched:,} of {tally.n_events:,} events matched ({tally.n_matched / tally.n_events:.1%})"
    )
    out.print(f"{matched}, {report.n_epochs:,} epochs\n")
    out.print(_arms_table(films, tally, report))
    out.print()
    out.print(_shares_table(films, report))
    out.print()
    gain = tally.gain()
    best = max(film.mean for film in films)
    out.print(
        f"mean reward of matched events  {gain.policy:.4f}   (the best film's logged mean is {best:.4f})"
    )
    out.print(f"mean reward of a uniform split {gain.uniform:.4f}")
    n_errors = gain.gain / gain.standard_error
    error = f"± {gain.standard_error:.4f} (standard error), {n_errors:.0f} standard errors from none"
    out.print(f"gain                           {gain.gain:+.4f} {error}")


def _arms_table(films: Sequence[Film], tally: Tally, report: pb.Report) -> Table:
    arms = {arm.arm: arm for arm in report.arms}
    table = plain_table(
        "Reward by film: rating ≥ 4", "film", "share now", "decisions", "matched", "mean", "logged mean"
    )
    for film in sorted(films, key=lambda each: -each.mean):
        n_matched = tally.matched[film.arm]
        mean = f"{tally.matched_good[film.arm] / n_matched:.3f}" if n_matched else "-"
        arm = arms[film.arm]
        decisions = f"{arm.decisions.policy:,}"
        table.add_row(film.title, f"{arm.share:.2%}", decisions, f"{n_matched:,}", mean, f"{film.mean:.3f}")
    return table


def _shares_table(films: Sequence[Film], report: pb.Report) -> Table:
    """Return some epochs, evenly spaced by number, from the first to the one in force."""
    ranked = sorted(films, key=lambda each: -each.mean)
    table = plain_table("Shares over time, %", "epoch", "after s", *(film.title for film in ranked), n_left=0)
    for epoch in report.epochs:
        seconds = (epoch.start_time.ToNanoseconds() - report.start_time.ToNanoseconds()) / 1e9
        shares = [f"{100 * epoch.shares.get(film.arm, 0.0):.1f}" for film in ranked]
        table.add_row(f"{epoch.number:,}", f"{seconds:.1f}", *shares)
    return table
