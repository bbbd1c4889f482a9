"""The output of a soak."""

from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.harness.console import plain_table
from benchmarks.harness.timings import percentile
from benchmarks.soak.check import LedgerComparison
from benchmarks.soak.clients import Books

if TYPE_CHECKING:
    from benchmarks.soak.results import Soak

_MOST_SHOWN = 10


def print_soak(soak: "Soak", books: Books, comparison: LedgerComparison, out: Console) -> None:
    """Print faults, load, memory, and the verdict."""
    out.print()
    _print_faults(soak, out)
    _print_load(soak, books, out)
    table = plain_table("Books", "what", "how many", no_wrap=True)
    table.add_row("acknowledged rewards and revisions", f"{books.n_acked:,}")
    table.add_row("outcomes in the log", f"{comparison.n_logged:,}")
    table.add_row("lost", f"{comparison.n_lost:,}")
    table.add_row("doubled", f"{comparison.n_doubled:,}")
    table.add_row("in the log, but never sent", f"{comparison.n_unknown:,}")
    table.add_row("of long ago, rightly purged", f"{comparison.n_purged:,}")
    table.add_row("in doubt, and duplicates on the retry", f"{comparison.n_in_doubt:,}")
    table.add_row("sums that differ from the log", f"{len(comparison.differences):,}")
    table.add_row("impossible answers", f"{len(comparison.wrong):,}")
    out.print(table)
    for text in (*comparison.differences, *comparison.wrong)[:_MOST_SHOWN]:
        out.print(text, soft_wrap=True)
    if not comparison.n_in_doubt:
        out.print("No reward was in doubt: run longer to cover retries.")
    out.print("The ledger is exact." if comparison.is_clean else "THE LEDGER IS WRONG.")


def _print_faults(soak: "Soak", out: Console) -> None:
    table = plain_table("Faults", "fault", "times", "survived", "lasted s", "recovery p50 s", "worst s")
    by_kind = defaultdict(list)
    for happened in soak.happened:
        by_kind[happened.kind].append(happened)
    for kind, faults in sorted(by_kind.items()):
        recoveries = [fault.recovery_seconds for fault in faults if fault.recovery_seconds is not None]
        table.add_row(
            kind,
            str(len(faults)),
            str(len(recoveries)),
            f"{median(fault.lasted_seconds for fault in faults):.1f}",
            f"{median(recoveries):.2f}" if recoveries else "never",
            f"{max(recoveries):.2f}" if len(recoveries) == len(faults) else "never",
        )
    out.print(table)


def _print_load(soak: "Soak", books: Books, out: Console) -> None:
    table = plain_table("Load", "what", "figure", no_wrap=True)
    table.add_row("decisions a second, faults included", f"{books.n_chosen / soak.seconds:,.0f}")
    table.add_row("acknowledged rewards a second", f"{books.n_acked / soak.seconds:,.0f}")
    table.add_row("replays", f"{books.n_replays:,}")
    table.add_row("bad inputs refused", f"{books.n_nonsense:,}")
    table.add_row("rewards refused for now, and retried", f"{books.refusals.total():,}")
    table.add_row("calls of Choose to a server that was down or frozen", f"{books.failovers:,}")
    table.add_row("other calls of Choose that failed", f"{len(books.failed_chooses):,}")
    if books.choose_seconds:
        p50, p99 = (percentile(books.choose_seconds, percent) * 1000 for percent in (50, 99))
        table.add_row("Choose p50 and p99, with every server up", f"{p50:.1f} and {p99:.1f} ms")
    for what, unit, values in (
        ("memory", "MiB", [sample.resident_mib for sample in soak.samples]),
        ("open descriptors", "", [float(sample.n_descriptors) for sample in soak.samples]),
        ("write-ahead log", "MiB", [sample.wal_mib for sample in soak.samples]),
    ):
        if any(values):
            half = max(1, len(values) // 2)
            most = f"{max(values[:half]):.0f} and {max(values[half:] or values):.0f} {unit}"
            table.add_row(f"{what}, maximum of the first half and of the second", most.rstrip())
    out.print(table)
