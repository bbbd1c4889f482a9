"""The tables of launches; the migrations build them, as those of `server.store.tables.schema`."""

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, String, Table, Text

from server.store.tables.schema import key_column, metadata

launch_looks = Table(
    "launch_looks",
    metadata,
    key_column("experiment", BigInteger),
    key_column("arm", Integer),
    Column("at", BigInteger, nullable=False),
    Column("entry", BigInteger, nullable=False),
    Column("covered", Text, nullable=False),
    Column("holds", Text, nullable=False),
    Column("figures", Text, nullable=False),
    Column("sentence", Text, nullable=False),
    Column("next", Text, nullable=False),
    Column("next_at", BigInteger),
    Column("shown", Text, nullable=False, server_default="{}"),
    sqlite_with_rowid=False,
)
"""The last look at each arm of a launch. `covered` holds the microseconds covered in each cycle of the visit
`entry`, `holds` what kept the arm from moving, `figures` what the look rested on; all of them JSON.
`sentence` says where the arm was, `next` what came next, at `next_at` at the earliest. `shown`, JSON too, has
the holds, gates and claims in full, and when outcomes were last heard of."""

requests = Table(
    "requests",
    metadata,
    Column("caller", Text, primary_key=True),
    Column("request_id", String(64), primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Requests of verbs that were carried out, so that one that is repeated moves nothing twice."""

leases = Table(
    "leases",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("token", BigInteger, nullable=False),
    Column("holder", Text),
    Column("beat", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""A row for each thing that only one server may do. `token` grows with every change of hands, `beat` with
every sign of life of the holder; `holder` is null while the lease is free."""
