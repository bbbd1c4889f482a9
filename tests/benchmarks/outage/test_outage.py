"""The outage benchmark, with every age scaled down: Choose never fails, and Reward comes back."""

from pathlib import Path

from benchmarks.outage.command import measure, table

AGES = ("--poll-seconds", "0.1", "--lag-seconds", "0.5", "--max-staleness-seconds", "1.5")


def test_with_the_database_stopped_choose_has_no_failed_call(tmp_path: Path) -> None:
    """Past max_staleness the champion answers as stale; Reward is UNAVAILABLE; all recovers by itself."""
    result = measure(tmp_path, fault="stop", seconds=4.0, around=1.0, n_replicas=2, flags=AGES)
    assert result.is_good, result
    before, during, after = result.rows
    assert before.reasons.keys() == {"REASON_POLICY"}
    assert during.reasons.keys() == {"REASON_POLICY", "REASON_STALE"}
    assert "REASON_POLICY" in after.reasons
    assert result.refusals.keys() == {"UNAVAILABLE"}
    assert result.n_acked > 0
    assert result.recovery_seconds < 10
    printed = "\n".join(table(result))
    assert "lost 0, sums that differ from the log 0" in printed
    assert all(f"| {row.phase} | {row.n_calls:,} | 0 |" in printed for row in result.rows)
