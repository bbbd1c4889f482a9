"""Brings a database to the schema of this version, or says that it is not there."""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from server.store.errors import SchemaError

HEAD: Final = "0005"
"""The newest migration; `tests/store` holds it to be Alembic's head."""


def current_revision(connection: Connection) -> str | None:
    """The revision of a database; None if it is empty.

    Raises:
        SchemaError: It has tables, but none of this service's.
    """
    tables = inspect(connection).get_table_names()
    if "alembic_version" in tables:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if tables:
        raise SchemaError(
            f"the database holds other tables ({', '.join(sorted(tables)[:3])}) and no bandit schema"
        )
    return None


def require_schema(connection: Connection) -> None:
    """Raises SchemaError unless the database has the schema of this version."""
    found = current_revision(connection)
    if found != HEAD:
        raise SchemaError(
            f"the database has schema {found or 'none'}, this version works with {HEAD}: "
            "start it without --no-migrate to migrate"
        )


def migrate(connection: Connection) -> None:
    """Brings the database to the schema of this version, inside the caller's transaction.

    Raises:
        SchemaError: It is of a newer version, or not a database of this service.
    """
    found = current_revision(connection)
    if found == HEAD:
        return
    from alembic import command  # noqa: PLC0415 - takes a quarter of a second, and only an upgrade needs it
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise SchemaError(
            f"the database has schema {found}, which this version does not know: use a newer version, "
            "or restore a backup from before the upgrade"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
