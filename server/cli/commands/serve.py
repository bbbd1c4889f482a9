"""`bandit-server serve`: a flag for every setting, grouped by topic."""

import gc
import sys
from pathlib import Path

import click

from server.cli.framework.errors import CalledWronglyError, reporting
from server.cli.framework.help import Command
from server.cli.framework.setting_options import config_option, setting_option
from server.cli.framework.settings_sources import load_settings
from server.settings import SettingsError, check_listen


class ServeCommand(Command):
    """The command `serve`, with its flags in sections."""

    sections = {  # noqa: RUF012 - annotated in Command
        "Address and data": ("listen", "fast_listen", "workers", "database", "migrate", "config"),
        "Access": ("tls_certificate", "tls_key", "tls_client_ca", "tokens", "calls_per_second", "insecure"),
        "Monitoring": ("metrics_listen", "webhooks", "reflection", "log_level"),
        "Shutdown": ("drain_seconds", "drain_delay_seconds"),
        "Shares": ("epoch_interval_seconds", "epoch_threshold"),
        "Launches": ("guardrail_seconds", "gate_seconds"),
        "Replicas and outages": (
            "poll_seconds",
            "lag_seconds",
            "max_staleness_seconds",
            "snapshot",
            "snapshot_seconds",
            "keys",
        ),
        "Retention": ("purge", "retention_seconds", "event_retention_seconds", "purge_interval_seconds"),
        "Clock": ("trust_clock_after_seconds", "clock_settle_seconds"),
        "Load": (
            "reward_queue_rows",
            "reward_queue_bytes",
            "max_concurrent_calls",
            "max_connections",
            "connection_seconds",
            "request_seconds",
            "flood_seconds",
            "fast_connections_by_address",
            "fast_new_connections",
        ),
        "Quotas": ("max_experiments", "max_arms", "max_metric_series"),
    }


@click.command(
    cls=ServeCommand,
    epilog="Every setting is also a key of the TOML file (drain_seconds = 10) and an environment variable "
    "(BANDIT_DRAIN_SECONDS=10). Flags override the environment, which overrides the file.",
)
@setting_option("listen", "ADDRESS")
@setting_option("fast_listen", "ADDRESS")
@setting_option("workers", "PROCESSES")
@setting_option("database", "URL")
@setting_option("migrate")
@config_option
@setting_option("tls_certificate", "FILE")
@setting_option("tls_key", "FILE")
@setting_option("tls_client_ca", "FILE")
@setting_option("tokens", "FILE")
@setting_option("calls_per_second", "CALLS")
@setting_option("insecure")
@setting_option("metrics_listen", "HOST:PORT")
@setting_option("webhooks", "FILE")
@setting_option("reflection")
@setting_option("log_level", "LEVEL")
@setting_option("drain_seconds", "SECONDS")
@setting_option("drain_delay_seconds", "SECONDS")
@setting_option("epoch_interval_seconds", "SECONDS")
@setting_option("epoch_threshold", "LOG-ODDS")
@setting_option("guardrail_seconds", "SECONDS")
@setting_option("gate_seconds", "SECONDS")
@setting_option("poll_seconds", "SECONDS")
@setting_option("lag_seconds", "SECONDS")
@setting_option("max_staleness_seconds", "SECONDS")
@setting_option("snapshot", "FILE")
@setting_option("snapshot_seconds", "SECONDS")
@setting_option("keys", "FILE")
@setting_option("purge")
@setting_option("retention_seconds", "SECONDS")
@setting_option("event_retention_seconds", "SECONDS")
@setting_option("purge_interval_seconds", "SECONDS")
@setting_option("trust_clock_after_seconds", "SECONDS")
@setting_option("clock_settle_seconds", "SECONDS")
@setting_option("reward_queue_rows", "ROWS")
@setting_option("reward_queue_bytes", "BYTES")
@setting_option("max_concurrent_calls", "CALLS")
@setting_option("max_connections", "CONNECTIONS")
@setting_option("connection_seconds", "SECONDS")
@setting_option("request_seconds", "SECONDS")
@setting_option("flood_seconds", "SECONDS")
@setting_option("fast_connections_by_address", "CONNECTIONS")
@setting_option("fast_new_connections", "CONNECTIONS")
@setting_option("max_experiments", "EXPERIMENTS")
@setting_option("max_arms", "ARMS")
@setting_option("max_metric_series", "SERIES")
def serve(config: Path | None, **flags: object) -> None:
    """Serve Choose and Reward until SIGTERM.

    The first line on standard output has the address, and a second one that of the fast lane. On SIGTERM
    health turns NOT_SERVING, calls in flight finish, queued rewards are committed, and the exit code is 0.
    """
    with reporting(SettingsError, CalledWronglyError):
        settings = load_settings(flags, config)
        check_listen(settings)
    gc.disable()  # imports leave no garbage, and looking for it takes a tenth of a start
    from server import app  # noqa: PLC0415 - takes a second; help and settings errors need not wait

    gc.enable()
    with reporting(app.StartupError):
        sys.exit(app.serve(settings))
