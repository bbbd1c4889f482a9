"""Startup errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from server.listening.errors import ListenError
from server.rpc.guard.tls import CertificateError
from server.services.access.tokens_file import TokensFileError
from server.services.webhooks.endpoints_file import WebhooksFileError
from server.settings import SettingValues
from server.store.errors import ForeignFileError, StoreError, StorePlaceError

_FAILED: Final = 1
_WRONG_SETTINGS: Final = 2


class StartupError(Exception):
    """The command can't start; the message is for the person who started it.

    Attributes:
        exit_code: 1, or 2 if a setting is wrong whatever is found on the machine.
    """

    def __init__(self, text: str, exit_code: int = _FAILED) -> None:
        self.exit_code = exit_code
        super().__init__(text)


@contextmanager
def fast_lane_errors(settings: SettingValues) -> Iterator[None]:
    """Raise StartupError, with where the fast lane was set, if its address can't be taken."""
    try:
        yield
    except ListenError as error:
        raise StartupError(settings.labelled("fast_listen", str(error))) from error


@contextmanager
def startup_errors(settings: SettingValues) -> Iterator[None]:
    """Raise StartupError for errors of the layers below; those of a path or URL name where it was set."""
    try:
        yield
    except (StorePlaceError, ForeignFileError) as error:
        is_malformed = isinstance(error, StorePlaceError) and error.is_malformed
        text = settings.labelled("database", str(error))
        raise StartupError(text, _WRONG_SETTINGS if is_malformed else _FAILED) from error
    except (CertificateError, TokensFileError, WebhooksFileError) as error:
        lines = map(settings.labelled_by_file, str(error).splitlines())
        raise StartupError("\n".join(lines)) from error
    except (StoreError, ListenError) as error:
        raise StartupError(str(error)) from error
