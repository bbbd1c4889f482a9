"""Matches from the command line: of the problem that options describe, or of named problems."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import click
from click.core import ParameterSource

from benchmarks.regret.blocks import Entrant, Match
from benchmarks.regret.options import (
    PROBLEM_OPTIONS,
    OptionError,
    Options,
    parse_entrants,
    read_entrants,
    read_problem,
)
from benchmarks.regret.players.peers import PeerContestant, missing_package
from benchmarks.regret.problems.named_problems import NAMED, Named
from benchmarks.regret.problems.problem import Problem
from benchmarks.regret.results import Anchor

OWN: Final = "problem"
"""Title of a problem that options describe."""

_DEFAULT_RUNS: Final = 1_000
_DEFAULT_PEER_RUNS: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Matches of one problem, and their expected regret.

    Attributes:
        title: The problem's name.
        matches: The contestants and their runs.
        anchors: Label of a policy to its expected regret.
        missing: Packages that are not installed; policies that need them are left out of `matches`.
    """

    title: str
    matches: Sequence[Match]
    anchors: Mapping[str, Anchor] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()


def make_plans(context: click.Context, options: Options) -> list[Plan]:
    """Make the plans that the options ask for.

    Raises:
        OptionError: The options contradict each other, or describe something that can't be played.
    """
    if options["means"] is not None or options["means_beta"] is not None:
        for name in ("names", "quick"):
            if options[name]:
                option = {"names": "--problem", "quick": "--quick"}[name]
                raise OptionError(f"{option} is for named problems: leave it out, or leave out --means")
        return [_own_plan(options)]
    given = sorted(
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in PROBLEM_OPTIONS
        and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    )
    if given:
        raise OptionError(f"{given[0]} needs --means or --means-beta, such as --means 0.2,0.25")
    names = options["names"] or [name for name, named in NAMED.items() if named.is_default]
    named = [NAMED[name].quick() if options["quick"] else NAMED[name] for name in names]
    return [_named_plan(each, options) for each in named]


def _own_plan(options: Options) -> Plan:
    problem = read_problem(options)
    entrants = read_entrants(options["policies"], problem, options)
    n_runs = options["runs"] or _DEFAULT_RUNS, options["peer_runs"] or _DEFAULT_PEER_RUNS
    plan = _plan(OWN, problem, entrants, n_runs, options["seed"])
    if plan.missing and not plan.matches:
        missing = sorted(plan.missing)
        raise OptionError(f"--policies needs {', '.join(missing)}: pip install {' '.join(missing)}")
    return plan


def _named_plan(named: Named, options: Options) -> Plan:
    entrants = parse_entrants(named.policies, named.problem)
    n_runs = options["runs"] or named.n_runs, options["peer_runs"] or named.n_peer_runs
    return _plan(named.name, named.problem, entrants, n_runs, options["seed"], named.anchors)


def _plan(
    title: str,
    problem: Problem,
    entrants: Sequence[Entrant],
    n_runs: tuple[int, int],
    seed: int,
    anchors: Mapping[str, Anchor] | None = None,
) -> Plan:
    """Make a plan without contestants whose package is not installed.

    `n_runs` is the number of runs of this library's policies, and of other libraries'.
    """
    matches = []
    missing = set()
    for entrant in entrants:
        n_ours, n_theirs = n_runs
        if isinstance(entrant, PeerContestant):
            if (package := missing_package(entrant)) is not None:
                missing.add(package)
                continue
            n_ours = n_theirs * entrant.runs_factor
        matches.append(Match(problem=problem, entrant=entrant, n_runs=n_ours, seed=seed))
    return Plan(title=title, matches=matches, anchors=anchors or {}, missing=frozenset(missing))
