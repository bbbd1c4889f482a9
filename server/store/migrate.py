"""Migration of a database to the schema of this version, and the check whether it has it.

**Old and new side by side.** During a rolling upgrade servers of the old version run, and may be started
again, on the schema of the new one. So a schema changes in two releases: the first only adds (tables, columns
that may be null or have a default, indexes) and its code still reads and writes what the old code does; a
later one takes away what no code in service uses any more. Each migration says in `compatible_from` which
revision the oldest code knows that may run on its result, and the database keeps that word: code that
meets a newer schema than its own goes on if it is not older than that, and does not start otherwise.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, delete, insert, inspect, select, text

from server.store.dialect import Dialect
from server.store.errors import SchemaError
from server.store.maintenance.sum_repair import repair
from server.store.tables.schema import HEAD, compatibility

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

_EXACT: Final = "0008"
"""From this revision on no sum overflows; those of an older database are repaired when it is migrated."""

_ENVIRONMENT: Final = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class Schema:
    """What a version of the code works with.

    Attributes:
        head: The revision that its migrations lead to.
        folders: Where the migrations are.
    """

    head: str = HEAD
    folders: tuple[Path, ...] = (_ENVIRONMENT / "versions",)


CURRENT: Final = Schema()


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


def has_schema(connection: Connection, schema: Schema = CURRENT) -> bool:
    """Whether code of this schema may run on the database as it is, with nothing to migrate.

    Raises:
        SchemaError: It is not a database of this service, or of a newer version that leaves no room for this.
    """
    found = current_revision(connection)
    if found is None or found < schema.head:
        return False
    require_schema(connection, schema)
    return True


def require_schema(connection: Connection, schema: Schema = CURRENT) -> None:
    """Raise SchemaError unless code of this schema may run on the database."""
    found = current_revision(connection)
    if found == schema.head:
        return
    if found is None or found < schema.head:
        raise SchemaError(
            f"the database has schema {found or 'none'}, this version works with {schema.head}: "
            "start a server of this version, without --no-migrate, to migrate it"
        )
    oldest = connection.execute(select(compatibility.c.oldest_code)).scalar()
    if oldest is None or oldest > schema.head:
        raise SchemaError(
            f"the database has schema {found}, which needs code of schema {oldest or found} or later, and "
            f"this version is of {schema.head}: use a newer version, or restore a backup from before it"
        )


def migrate(connection: Connection, dialect: Dialect, schema: Schema = CURRENT) -> None:
    """Bring an empty or older database to a schema, inside the caller's transaction; leave a newer one.

    Raises:
        SchemaError: It is not a database of this service, or of a revision that never was.
    """
    found = current_revision(connection)
    if found is not None and found >= schema.head:
        return
    from alembic import command  # noqa: PLC0415 - takes a quarter of a second, and only an upgrade needs it
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_ENVIRONMENT))
    for option in ("path_separator", "version_path_separator"):  # its name, and that before Alembic 1.16
        config.set_main_option(option, "os")
    config.set_main_option("version_locations", os.pathsep.join(map(str, schema.folders)))
    scripts = ScriptDirectory.from_config(config)
    if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
        raise SchemaError(f"the database has schema {found}, which no version of this service ever had")
    config.attributes["connection"] = connection
    command.upgrade(config, schema.head)
    if found is not None and found < _EXACT:
        repair(connection, dialect)
    _note_compatibility(connection, scripts, schema.head)


def _note_compatibility(connection: Connection, scripts: "ScriptDirectory", revision: str) -> None:
    """Store which code may run on the schema: never older than a feature in use allows already."""
    allowed = scripts.get_revision(revision).module.compatible_from
    before = connection.execute(select(compatibility.c.oldest_code)).scalar()
    connection.execute(delete(compatibility))
    connection.execute(insert(compatibility).values(oldest_code=max(allowed, before or allowed)))
