"""Each setting with its unit, range and default, and where it was set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from bandit.sizes import MAX_ARMS
from server.addresses import (
    listen_address,
    metrics_address,
)
from server.database_urls import check_database_url

ENVIRONMENT_PREFIX = "BANDIT_"
MIB = 1024 * 1024
_CONTROL_CHARACTERS = frozenset(map(chr, (*range(32), 127)))


class SettingsError(Exception):
    """Invalid settings; `problems` has one line for each."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _check_file(path: object) -> object:
    if not isinstance(path, (str, Path)) or not str(path):
        raise ValueError("must be the path of a file")
    if not _CONTROL_CHARACTERS.isdisjoint(str(path)):
        raise ValueError("must be the path of a file, without line breaks and other control characters")
    return path


def _lower(level: object) -> object:
    return level.lower() if isinstance(level, str) else level


ListenAddress = Annotated[str, AfterValidator(listen_address)]
MetricsAddress = Annotated[str, AfterValidator(metrics_address)]
File = Annotated[Path, BeforeValidator(_check_file)]
Seconds = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class _Sources:
    """Where settings were set. Any two are equal, so that settings are if their values are."""

    names: Mapping[str, str] = field(default_factory=dict, compare=False)


class SettingValues(BaseSettings):
    """All settings, each within its range, but not checked against each other.

    Commands that use a few of them take these, since rules about the others do not concern them. Times are in
    seconds, sizes in rows or bytes.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True
    )

    _sources: _Sources = PrivateAttr(default_factory=_Sources)

    listen: ListenAddress = Field(
        default="127.0.0.1:50051",
        description="Address to serve RPCs at: HOST:PORT, which takes every address of the host or none, "
        "or a Unix socket, unix:PATH or unix-abstract:NAME. Port 0 takes a free port and prints it.",
    )
    fast_listen: ListenAddress | None = Field(
        default=None,
        description="Second address, in the same forms, which serves Choose, Reward and health only, at a "
        "fraction of the cost of a call. Not set: no fast lane.",
    )
    database: Annotated[str, AfterValidator(check_database_url)] = Field(
        default="sqlite:///bandit.db",
        description="Where data is stored: sqlite:///FILE (one server) or postgresql+psycopg://… (replicas).",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Worker processes that share the port, to use several cores; needs PostgreSQL. Each "
        "serves its own metrics, at the port of --metrics-listen and the ports after it.",
    )
    insecure: bool = Field(
        default=False,
        description="Allow an address beyond loopback without TLS, or without tokens and client "
        "certificates: anyone who can reach it can read or change traffic.",
    )
    tls_certificate: File | None = Field(
        default=None,
        description="PEM file of the server's certificate, followed by its intermediate certificates. This "
        "file and the next two are reloaded when they change.",
    )
    tls_key: File | None = Field(
        default=None, description="PEM file of the certificate's private key, unencrypted."
    )
    tls_client_ca: File | None = Field(
        default=None,
        description="PEM file of the root certificates for clients; every client must then present a "
        "certificate.",
    )
    tokens: File | None = Field(
        default=None,
        description="TOML file of callers, with their token hashes and roles; reloaded when it changes. Not "
        "set: anyone may do anything.",
    )
    calls_per_second: Seconds | None = Field(
        default=None,
        gt=0,
        le=10_000_000,
        description="Calls per second that each caller may make, counting every item of a batch; more are "
        "refused. Without tokens all callers share one limit.",
    )
    migrate: bool = Field(
        default=True,
        description="Upgrade an old database schema at start; --no-migrate refuses to start on one.",
    )
    metrics_listen: MetricsAddress | None = Field(
        default=None, description="Address to serve Prometheus metrics at, over HTTP. Not set: no metrics."
    )
    reflection: bool = Field(default=False, description="Serve gRPC reflection, for tools such as grpcurl.")
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = Field(
        default="info", description="Least severe level to log: debug, info, warning or error."
    )
    drain_seconds: Seconds = Field(
        default=10.0, ge=0, le=3_600, description="On SIGTERM, how long calls in flight may take to finish."
    )
    drain_delay_seconds: Seconds = Field(
        default=0.0,
        ge=0,
        le=3_600,
        description="On SIGTERM, how long to keep serving after health turns NOT_SERVING, so that load "
        "balancers stop sending calls first.",
    )
    max_staleness_seconds: Seconds = Field(
        default=600.0,
        gt=0,
        le=7 * 86_400,
        description="If the server has not heard from the database for longer than this, Choose answers with "
        "the champion.",
    )
    snapshot: File | None = Field(
        default=None,
        description="Snapshot file that the server writes, to start from while PostgreSQL is unavailable; "
        "needs --keys. Not set: the server waits for PostgreSQL.",
    )
    webhooks: File | None = Field(
        default=None,
        description="TOML file of the endpoints to which events of experiments are posted, with their "
        "secrets; keep it secret. Loaded again when it changes.",
    )
    snapshot_seconds: Seconds = Field(
        default=10.0, ge=0.01, le=3_600, description="Write the snapshot file at most this often."
    )
    keys: File | None = Field(
        default=None,
        description="File of the keys that sign decisions, for a start without the database; keep it secret. "
        "The server writes it if its permissions allow.",
    )
    poll_seconds: Seconds = Field(
        default=1.0,
        ge=0.01,
        le=60,
        description="How often to poll the database for changes by other replicas.",
    )
    epoch_interval_seconds: Seconds = Field(
        default=0.25, ge=0.01, le=3_600, description="Recompute shares at most this often."
    )
    epoch_threshold: float = Field(
        default=0.2,
        gt=0,
        le=10,
        allow_inf_nan=False,
        description="A new epoch begins when a share has moved by more than this, in log-odds.",
    )
    guardrail_seconds: Seconds = Field(
        default=5.0,
        ge=0.01,
        le=3_600,
        description="Look at the guardrails of launches this often, to take out an arm that does harm.",
    )
    gate_seconds: Seconds = Field(
        default=30.0,
        ge=0.01,
        le=3_600,
        description="Look at the gates of launches this often, to let challengers take their next step; at "
        "least --guardrail-seconds.",
    )
    lag_seconds: Seconds = Field(
        default=5.0,
        gt=0,
        le=3_600,
        description="How far a replica may lag behind the database before its decisions count as "
        "unconfirmed; an epoch closes this long after its last window.",
    )
    purge: bool = Field(
        default=True,
        description="Purge rewards from the log once their decisions have expired and the retention is over; "
        "the sums are kept. --no-purge keeps the log forever.",
    )
    retention_seconds: Seconds = Field(
        default=30 * 86_400.0,
        gt=0,
        le=3_650 * 86_400,
        description="How long the rewards of an epoch are kept after its last decision has passed "
        "max_decision_age.",
    )
    event_retention_seconds: Seconds = Field(
        default=400 * 86_400.0,
        ge=0,
        le=36_500 * 86_400,
        description="How long the events of experiments are kept, unless --no-purge keeps all; 0 keeps them "
        "forever.",
    )
    purge_interval_seconds: Seconds = Field(
        default=600.0, ge=0.05, le=86_400, description="How often to look for rewards to purge."
    )
    trust_clock_after_seconds: Seconds = Field(
        default=86_400.0,
        ge=0,
        le=365 * 86_400,
        description="Nothing is purged or forgotten by an instant until servers have run for this long after "
        "it without doubt about the clock.",
    )
    clock_settle_seconds: Seconds = Field(
        default=600.0,
        ge=0.1,
        le=86_400,
        description="How long the clock must be consistent after a large jump before servers follow it; a "
        "tenth of this after a jump of up to six times this. Lower it only in tests.",
    )
    reward_queue_rows: int = Field(
        default=50_000,
        ge=1,
        le=10_000_000,
        description="Outcomes that may wait for a commit; more are refused.",
    )
    reward_queue_bytes: int = Field(
        default=32 * MIB,
        ge=64 * 1024,
        le=1024 * MIB,
        description="Bytes that may wait for a commit; more are refused.",
    )
    connection_seconds: Seconds = Field(
        default=1_800.0,
        ge=1,
        le=86_400,
        description="Ask clients to reconnect after this long, so that calls spread over servers and "
        "workers; calls in flight finish.",
    )
    max_experiments: int = Field(
        default=20_000,
        ge=1,
        le=10_000_000,
        description="Experiments that a namespace may hold, not counting deleted ones; experiments without a "
        "namespace share one limit.",
    )
    max_arms: int = Field(
        default=MAX_ARMS, ge=1, le=MAX_ARMS, description="Arms that an experiment may have."
    )
    max_metric_series: int = Field(
        default=20_000,
        ge=100,
        le=10_000_000,
        description="Most combinations of experiment and arm that a metric may have, at most half of them "
        "from one namespace; later ones are summed as (other).",
    )
    max_connections: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Connections that may be open at once; more are closed. The process's limit on open "
        "files may allow fewer.",
    )
    request_seconds: Seconds = Field(
        default=10.0,
        gt=0,
        le=3_600,
        description="End a call whose request does not arrive within this time after its headers.",
    )
    flood_seconds: Seconds = Field(
        default=10.0,
        ge=0,
        le=3_600,
        description="After closing a connection that holds too many calls without requests, drop most new "
        "connections from its address for this long (on Linux). 0 drops none: use it behind a proxy, where "
        "all clients share one address.",
    )
    fast_connections_by_address: int = Field(
        default=100,
        ge=0,
        le=1_000_000,
        description="Connections to the fast lane from one address, for IPv6 a /64; more are closed. "
        "0: any number, for a server behind a proxy.",
    )
    fast_new_connections: int = Field(
        default=50,
        ge=0,
        le=1_000_000,
        description="Connections to the fast lane that one address may open per second; more are closed. "
        "0: any number, for a server behind a proxy.",
    )
    max_concurrent_calls: int = Field(
        default=1_000,
        ge=1,
        le=100_000,
        description="Calls of one method that may run at once; more are refused.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is that of pydantic-settings
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments only, so that a `Settings` built in code is the same on every machine."""
        return (init_settings,)

    def note_sources(self, names: Mapping[str, str]) -> None:
        """Note where settings were set, such as --database or BANDIT_DATABASE, for errors that come later."""
        self._sources = _Sources(dict(names))

    def labelled(self, setting: str, text: str) -> str:
        """Return an error's text, with where the setting was set before it; as it is, if that is unknown."""
        source = self._sources.names.get(setting)
        return text if source is None else f"{source}: {text}"

    def labelled_by_file(self, text: str) -> str:
        """Return a line that begins with the path of a file, with where that path was set before it."""
        for setting in self._sources.names:
            path = getattr(self, setting)
            if isinstance(path, Path) and text.startswith((f"{path}:", f"{path} ")):
                return self.labelled(setting, text)
        return text
