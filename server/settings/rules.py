"""The rules between settings, and what a server may not listen at."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from bandit.number_text import exact
from server.addresses import LARGEST_PORT, is_loopback, is_unix, split_address
from server.settings.values import SettingsError, SettingValues

_CLOCK_MARGIN_SECONDS = 3_600.0


class Settings(SettingValues):
    """All settings of a server, which keep the rules between them."""

    @property
    def convergence(self) -> timedelta:
        """The time until all replicas that reach the database know a change: 1.5 polls and 0.25 s."""
        return timedelta(seconds=1.5 * self.poll_seconds + 0.25)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses at which calls are served."""
        return (self.listen,) if self.fast_listen is None else (self.listen, self.fast_listen)

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        for name in ("lag_seconds", "max_staleness_seconds"):
            if getattr(self, name) <= self.poll_seconds:
                raise _rule(name, f"must be more than poll_seconds ({exact(self.poll_seconds)})")
        shortest = self.max_staleness_seconds + self.lag_seconds + _CLOCK_MARGIN_SECONDS
        if self.purge and self.retention_seconds < shortest:
            raise _rule(
                "retention_seconds",
                f"must be at least {exact(shortest)}: max_staleness_seconds "
                f"({exact(self.max_staleness_seconds)}) and lag_seconds ({exact(self.lag_seconds)}), for "
                f"which a replica may use an old epoch, and {exact(_CLOCK_MARGIN_SECONDS)} for clocks that "
                "disagree",
            )
        return self

    @model_validator(mode="after")
    def _check_looks(self) -> Self:
        if self.gate_seconds < self.guardrail_seconds:
            rule = f"must be at least guardrail_seconds ({exact(self.guardrail_seconds)})"
            raise _rule("gate_seconds", rule)
        return self

    @model_validator(mode="after")
    def _check_standby(self) -> Self:
        if (self.snapshot is None) != (self.keys is None):
            given, missing = ("snapshot", "keys") if self.keys is None else ("keys", "snapshot")
            raise _rule(given, f"must come with {missing}")
        if self.snapshot is not None and self.database.startswith("sqlite:"):
            raise _rule(
                "snapshot",
                "needs PostgreSQL: an SQLite file is on the server's own disk, so it is there at every start",
            )
        return self

    @model_validator(mode="after")
    def _check_workers(self) -> Self:
        if self.workers == 1:
            return self
        if self.database.startswith("sqlite:"):
            raise _rule(
                "workers",
                "needs PostgreSQL: an SQLite file has one writer at a time, and processes that share it "
                "starve each other",
            )
        if any(map(is_unix, self.addresses)):
            raise _rule("workers", "must be 1 to listen at a Unix socket, which processes cannot share")
        if self.metrics_listen is not None:
            _check_metrics_ports(self.addresses, self.metrics_listen, self.workers)
        return self

    @model_validator(mode="after")
    def _check_ports(self) -> Self:
        if _is_same(self.fast_listen, self.listen):
            raise _rule("fast_listen", "must differ from listen: the fast lane needs a port of its own")
        if _is_same(self.metrics_listen, self.listen):
            raise _rule("metrics_listen", "must differ from listen: metrics need a port of their own")
        if _is_same(self.metrics_listen, self.fast_listen):
            raise _rule("metrics_listen", "must differ from fast_listen: metrics need a port of their own")
        return self

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            missing = "tls_key" if self.tls_key is None else "tls_certificate"
            given = "tls_certificate" if missing == "tls_key" else "tls_key"
            raise _rule(given, f"must come with {missing}")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise _rule("tls_client_ca", "must come with tls_certificate and tls_key")
        return self


def _is_same(one: str | None, other: str | None) -> bool:
    """True if both are one address; two that take a free port are not."""
    return one is not None and one == other and (is_unix(one) or split_address(one)[1] != 0)


def _check_metrics_ports(addresses: Iterable[str], metrics_listen: str, workers: int) -> None:
    """Raise if the workers' metrics ports go beyond 65535 or include a port of the service."""
    _, first = split_address(metrics_listen)
    last = first + workers - 1
    if first == 0:
        return
    taken = [split_address(address)[1] for address in addresses]
    if last > LARGEST_PORT or any(first <= port <= last for port in taken):
        raise _rule(
            "metrics_listen",
            f"each of {workers} workers takes a port, {first} to {last}: all must be free, and at most 65535",
        )


def _rule(field: str, text: str) -> PydanticCustomError:
    """Return the error for a broken rule between fields, reported as that of `field`."""
    return PydanticCustomError("rule", "{text}", {"field": field, "text": text})


def check_listen(settings: Settings) -> None:
    """Refuse an unprotected address beyond loopback, unless `insecure` is set.

    Raises:
        SettingsError: An address of the service is beyond loopback, `insecure` is not set, and there is no
            TLS, or callers need no credentials.
    """
    exposed = next((address for address in settings.addresses if not is_loopback(address)), None)
    if settings.insecure or exposed is None:
        return
    if settings.tls_certificate is None:
        raise SettingsError(
            f"{exposed} is beyond loopback and there is no TLS: anyone on the network path could "
            "read and change what is sent. Set --tls-certificate and --tls-key or, on a trusted network, "
            "--insecure"
        )
    if settings.tokens is None and settings.tls_client_ca is None:
        raise SettingsError(
            f"{exposed} is beyond loopback and callers need no credentials: anyone who can reach the "
            "port could change traffic. Set --tokens or --tls-client-ca or, on a trusted network, --insecure"
        )
