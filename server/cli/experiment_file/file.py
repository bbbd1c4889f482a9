"""Experiments as TOML files: reading reports every error, and reads back what writing wrote.

Keys mirror the fields of the `Experiment` message; `bandit-server experiment example` prints all of them with
comments. `ExperimentFileError` lists all problems of a file at once.
"""

import errno
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bandit.v1.experiment_pb2 import (
    METRIC_ROLE_GUARDRAIL,
    METRIC_ROLE_UNSPECIFIED,
    Experiment,
    Metric,
)
from server.cli.experiment_file.decode import Problem, fill
from server.cli.experiment_file.encode import to_table
from server.cli.experiment_file.toml_writer import TomlTable, dumps
from server.services.runtime.input_files import InputFileError, decode, parse_toml, read_text

_MAX_BYTES: Final = 1024 * 1024
"""The service takes no larger message."""

_SERVICE_SETS = "is set by the service, not by a file"
REFUSED = {
    "state": f"{_SERVICE_SETS}: use experiment start, pause or conclude",
    "winner": f"{_SERVICE_SETS}: use experiment conclude",
    "etag": f"{_SERVICE_SETS}: apply changes only the version that it compared with",
    "create_time": _SERVICE_SETS,
    "update_time": _SERVICE_SETS,
    "start_time": _SERVICE_SETS,
    "conclude_time": _SERVICE_SETS,
    "epoch": _SERVICE_SETS,
    "launch_status": f"{_SERVICE_SETS}: use launch show",
    "taken_priors": f"{_SERVICE_SETS}: use prior_from of an arm that is added",
}
_FIRST = ("name", "description", "champion", "reward_metric")


class ExperimentFileError(Exception):
    """An invalid experiment file; one line for each problem, `FILE: PATH: RULE`."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        lines = (f"{file}: {problem.path}: {problem.text}".replace(": : ", ": ") for problem in problems)
        super().__init__("\n".join(lines))
        self.problems = problems


def read_experiment(file: str) -> Experiment:
    """Read the experiment in `file`; `-` is standard input.

    Raises:
        ExperimentFileError: the file can't be read, or is not a valid experiment.
    """
    label = file_label(file)
    try:
        text = decode(sys.stdin.buffer.read(_MAX_BYTES + 1)) if file == "-" else read_text(Path(file))
    except InputFileError as error:
        raise ExperimentFileError(label, [Problem(path="", text=str(error))]) from None
    except OSError as error:
        is_closed = error.errno == errno.EBADF
        reason = "it is closed" if is_closed else (error.strerror or "cannot be read").lower()
        raise ExperimentFileError(label, [Problem(path="", text=reason)]) from None
    return parse_experiment(text, label)


def file_label(file: str) -> str:
    """Return the name of `file` for error messages."""
    return "standard input" if file == "-" else file


def parse_experiment(text: str, file: str = "text") -> Experiment:
    """Parse the experiment that `text` describes; `file` is its name in error messages.

    Raises:
        ExperimentFileError: not TOML, or not a valid experiment.
    """
    try:
        table = parse_toml(text)
    except InputFileError as error:
        raise ExperimentFileError(file, [Problem(path="", text=str(error))]) from None
    experiment = Experiment()
    refused = [Problem(path=key, text=REFUSED[key]) for key in table if key in REFUSED]
    problems = fill(experiment, {key: value for key, value in table.items() if key not in REFUSED})
    if refused or problems:
        raise ExperimentFileError(file, [*refused, *problems])
    for metric in experiment.metrics:
        _name_guardrail_twice(metric)
    return experiment


def _name_guardrail_twice(metric: Metric) -> None:
    """Set both fields that make a guardrail: services before 0.3.0 know only `guardrail`."""
    if metric.guardrail and metric.role == METRIC_ROLE_UNSPECIFIED:
        metric.role = METRIC_ROLE_GUARDRAIL
    elif metric.role == METRIC_ROLE_GUARDRAIL:
        metric.guardrail = True


def format_experiment(experiment: Experiment) -> str:
    """Return `experiment` as the text of a file, without the fields that only the service sets."""
    return dumps(to_file_table(experiment))


def to_file_table(experiment: Experiment) -> TomlTable:
    """Return the table that `format_experiment` writes; a guardrail is named in one way only."""
    named_once = Experiment()
    named_once.CopyFrom(experiment)
    for metric in named_once.metrics:
        if metric.guardrail and metric.role == METRIC_ROLE_GUARDRAIL:
            metric.ClearField("role")
    table = {key: value for key, value in to_table(named_once).items() if key not in REFUSED}
    first = [key for key in _FIRST if key in table]
    return {key: table[key] for key in (*first, *table)}
