"""Tables of launches: what happened to each, and how it ended."""

from collections.abc import Sequence

from rich.console import Console

from benchmarks.harness.console import plain_table
from benchmarks.launch.results import Outcome


def print_outcome(outcome: Outcome, console: Console) -> None:
    """Print the events of one launch."""
    table = plain_table(outcome.case.name, "day", "arm", "what", "decisions", "challenger's", "why", n_left=3)
    table.columns[-1].justify = "left"
    for each in outcome.happened:
        counts = (f"{each.decisions:,}", f"{each.of_challenger:,}")
        table.add_row(f"{each.day:.1f}", each.arm, each.what, *counts, each.why)
    console.print(table)
    console.print()


def print_summary(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print how each launch ended."""
    table = plain_table("How they ended", "launch", "end", "day", "decisions", "challenger's", "shares", "s")
    for outcome in outcomes:
        last = outcome.happened[-1]
        end = outcome.end or "under way"
        table.add_row(
            outcome.case.name,
            end if outcome.is_expected else f"{end}, NOT AS EXPECTED",
            f"{last.day:.1f}",
            f"{last.decisions:,}",
            f"{last.of_challenger:,}",
            ", ".join(f"{arm} {share:.3g}" for arm, share in outcome.shares.items()),
            f"{outcome.seconds:.0f}",
        )
    console.print(table)
