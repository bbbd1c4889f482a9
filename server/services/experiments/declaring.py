"""Declarations as they come in: whatever rules one breaks are told to the caller at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from bandit.experiment import Experiment
from bandit.update_rules import require_compatible, require_known_sources, require_numbers_left
from bandit.validation import InvalidExperimentError, require_valid
from server.services.errors import InvalidInputError
from server.store.records import ExperimentRecord, State


def require_new(experiment: Experiment) -> None:
    """Raise InvalidInputError if an experiment that is to be created breaks rules."""
    with _told_to_the_caller():
        require_valid(experiment)
        require_known_sources(experiment, {arm.id for arm in experiment.arms})


def require_change(record: ExperimentRecord, experiment: Experiment) -> None:
    """Raise InvalidInputError if a new declaration of a stored experiment breaks rules.

    One that has started must not falsify what was recorded, either.
    """
    with _told_to_the_caller():
        require_valid(experiment, record.experiment)
        if record.state is not State.DRAFT:
            require_compatible(
                record.experiment,
                experiment,
                arms_ever=record.arm_numbers.keys(),
                metrics_ever=record.metric_numbers.keys(),
            )


def declared(record: ExperimentRecord, experiment: Experiment) -> ExperimentRecord:
    """Return a stored experiment with another declaration; what is new in it gets numbers.

    Raises:
        InvalidInputError: There are no numbers left, or an arm takes its prior from one that never was.
    """
    after = record.declaring(experiment)
    with _told_to_the_caller():
        require_known_sources(experiment, after.arm_numbers)
        require_numbers_left(len(after.arm_numbers), len(after.metric_numbers))
    return after


@contextmanager
def _told_to_the_caller() -> Iterator[None]:
    try:
        yield
    except InvalidExperimentError as error:
        raise InvalidInputError(error.violations) from None
