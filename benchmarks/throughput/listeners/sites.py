"""The whole comparison: servers with one experiment of each kind and with 200, and with TLS and tokens."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Final

from benchmarks.harness.experiments import declare
from benchmarks.harness.processes import ChildError, verify
from benchmarks.throughput.interleaved import echoing
from benchmarks.throughput.listeners.comparing import Compared, Comparer, Effort
from benchmarks.throughput.listeners.programs import (
    BuildError,
    LoadProgram,
    build_go_echo,
    build_load_client,
)
from benchmarks.throughput.listeners.rows import (
    Name,
    Row,
    choose_rows,
    deadline_rows,
    many_of_each,
    one_of_each,
    other_rows,
    secured_rows,
)
from benchmarks.throughput.listeners.runs import cores, pin
from benchmarks.throughput.listeners.subjects import Subject, Subjects, go_echoing, plain, secured

_ANSWER_BYTES: Final = 150
"""About the length of an answer of Choose."""

_FULL_SHARE: Final = 0.8
"""Of a core: a server that took less in a closed loop was limited by something else."""

_ONE_CORE: Final = "this machine has one core: servers and load client share it, so that rates are too low"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What of the comparison is wanted.

    Attributes:
        rows: A pattern; rows are left out whose title and setting do not match it.
        has_fast: Whether the fast lane takes part.
        effort: How long things are measured.
    """

    rows: str
    has_fast: bool
    effort: Effort

    def of(self, rows: Iterator[Row]) -> list[Row]:
        """Return those that are wanted."""
        return [
            row for row in rows if fnmatchcase(f"{row.title}, {row.setting}, {row.shape.title}", self.rows)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All rows, and what is to be known about them."""

    rows: Sequence[Compared]
    notes: Sequence[str]


def compare_listeners(scratch: Path, choice: Choice, on_row: Callable[[str], None]) -> Comparison:
    """Compare the listeners and the echoes; what this machine cannot do is left out, with a note.

    Args:
        scratch: An empty folder.
        choice: What is wanted.
        on_row: Called with the title of each row before it is measured.

    Raises:
        ChildError: A server failed, or lost an acknowledged reward.
        LoadError: A call failed.
    """
    both = cores()
    notes = [f"servers run on core {both[0]}, the load client on core {both[1]}" if both else _ONE_CORE]
    try:
        program = build_load_client(scratch)
    except BuildError as error:
        return Comparison(rows=[], notes=[f"the listeners were not compared: {error}"])
    with ExitStack() as stack:
        sites = _Sites(scratch, program, _echoes(stack, scratch, notes), choice, on_row)
        rows = [*sites.few(notes), *sites.secured(notes), *sites.many()]
    share = min((found.core_share for row in rows for found in row.subjects), default=1.0)
    if share < _FULL_SHARE:
        notes.append(
            f"servers got as little as {share:.0%} of their core: something else limited them, such as other "
            "load on this machine, or waiting for the disk; ratios of CPU hold, ratios of rates may not"
        )
    return Comparison(rows=rows, notes=notes)


class _Sites:
    """Servers with different experiments and different protection, one after the other."""

    def __init__(
        self,
        scratch: Path,
        program: LoadProgram,
        echoes: Subjects,
        choice: Choice,
        on_row: Callable[[str], None],
    ) -> None:
        self._scratch = scratch
        self._program = program
        self._echoes = echoes
        self._choice = choice
        self._on_row = on_row
        self._few = scratch / "few"

    def few(self, notes: list[str]) -> list[Compared]:
        """Compare every kind of call, with one experiment; then look for the rewards in the database."""
        names = one_of_each()
        rows = self._choice.of(chain(choose_rows(names), deadline_rows(names[10]), other_rows(names[10])))
        self._few.mkdir()
        with plain(self._few, has_fast=self._choice.has_fast) as listeners:
            declare(listeners[Name.DEFAULT].address, names, lambda _: None)
            found, n_rewards = self._compare(rows, {**listeners, **self._echoes})
        verdict = verify(self._few)
        if f" {n_rewards:,} outcomes" not in verdict:
            raise ChildError(f"{n_rewards:,} rewards were acknowledged, but verify says: {verdict}")
        if n_rewards:
            notes.append(f"every acknowledged reward of both listeners is there; verify: {verdict}")
        return found

    def secured(self, notes: list[str]) -> list[Compared]:
        """Compare the same call with TLS, with a token and without, on copies of the same database."""
        rows = self._choice.of(secured_rows(one_of_each()[10]))
        if not rows:
            return []
        has_fast = self._choice.has_fast
        with (
            secured(self._scratch, self._few, has_fast=has_fast) as guarded,
            plain(self._few, has_fast=has_fast) as listeners,
        ):
            subjects = {**listeners, **guarded}
            if not self._program.has_tls:
                notes.append("TLS was not measured: the headers of OpenSSL are missing")
                subjects = {name: each for name, each in subjects.items() if each.certificate is None}
            return self._compare(rows, subjects)[0]

    def many(self) -> list[Compared]:
        """Compare Choose with 200 experiments of each number of arms."""
        names = many_of_each()
        rows = self._choice.of(choose_rows(names))
        if not rows:
            return []
        folder = self._scratch / "many"
        folder.mkdir()
        with plain(folder, has_fast=self._choice.has_fast) as listeners:
            declare(listeners[Name.DEFAULT].address, names, lambda _: None)
            return self._compare(rows, {**listeners, **self._echoes})[0]

    def _compare(self, rows: Sequence[Row], subjects: Subjects) -> tuple[list[Compared], int]:
        """Return the rows' figures, and how many rewards were acknowledged."""
        pin({subject.pid for subject in subjects.values()})
        comparer = Comparer(self._program, subjects, self._scratch, self._choice.effort)
        found = []
        for row in rows:
            self._on_row(f"{row.title}, {row.setting}, {row.shape.title}")
            found.append(comparer.compare(row))
        return found, comparer.n_rewards


def _echoes(stack: ExitStack, scratch: Path, notes: list[str]) -> Subjects:
    """Run the echoes that this machine can run."""
    child = stack.enter_context(echoing(_ANSWER_BYTES))
    echoes = {Name.AIO_ECHO: Subject(pid=child.pid, address=child.address, is_echo=True)}
    try:
        program = build_go_echo(scratch)
    except BuildError as error:
        notes.append(f"the echo on grpc-go was left out: {error}")
        return echoes
    echoes[Name.GO_ECHO] = stack.enter_context(go_echoing(program, _ANSWER_BYTES))
    return echoes
