"""Leases in SQL: one row for each. A change under a lease locks its row, and nobody takes it meanwhile."""

from sqlalchemy import ColumnElement, Connection, select, text, update

from server.store.errors import LeaseLostError
from server.store.records import Lease
from server.store.tables.launch.schema import leases

_INSERT = text("""
    INSERT INTO leases (name, token, holder, beat) VALUES (:name, :token, :holder, :beat)
    ON CONFLICT DO NOTHING
""")


def read(connection: Connection, name: str) -> Lease:
    """See `LeaseStore.read_lease`."""
    row = connection.execute(select(leases).where(leases.c.name == name)).one_or_none()
    if row is None:
        return Lease.unheard_of(name)
    return Lease(name=row.name, token=row.token, holder=row.holder, beat=row.beat)


def take_over(connection: Connection, seen: Lease, holder: str) -> Lease | None:
    """See `LeaseStore.take_over_lease`."""
    taken = seen.taken_by(holder)
    if _replace(connection, seen, taken) or (seen.token == 0 and _insert(connection, taken)):
        return taken
    found = read(connection, seen.name)
    return found if (found.token, found.holder) == (taken.token, taken.holder) else None


def renew(connection: Connection, lease: Lease) -> Lease | None:
    """See `LeaseStore.renew_lease`."""
    renewed = lease.renewed()
    is_mine = _is_held(lease) & (leases.c.beat <= renewed.beat)
    is_done = connection.execute(update(leases).where(is_mine).values(beat=renewed.beat)).rowcount == 1
    return renewed if is_done else None


def release(connection: Connection, lease: Lease) -> None:
    """See `LeaseStore.release_lease`."""
    is_mine = _is_held(lease) & (leases.c.holder == lease.holder)
    connection.execute(update(leases).where(is_mine).values(token=lease.token + 1, holder=None))


def require(connection: Connection, lease: Lease) -> None:
    """Raise LeaseLostError unless the lease is still held; if so, it is until the transaction ends."""
    query = select(leases.c.token).where(_is_held(lease)).with_for_update(read=True)
    if connection.execute(query).one_or_none() is None:
        raise LeaseLostError(lease.name, lease.token)


def _is_held(lease: Lease) -> ColumnElement[bool]:
    return (leases.c.name == lease.name) & (leases.c.token == lease.token)


def _replace(connection: Connection, seen: Lease, taken: Lease) -> bool:
    """Replace a lease that is as it was seen, unless a transaction has locked it; return whether it was."""
    # Who waited for the lock would hold up the rewards of its own server, behind a change of a frozen one.
    is_as_seen = _is_held(seen) & (leases.c.beat == seen.beat)
    unlocked = select(leases.c.name).where(is_as_seen).with_for_update(skip_locked=True).scalar_subquery()
    values = {"token": taken.token, "holder": taken.holder, "beat": taken.beat}
    return connection.execute(update(leases).where(leases.c.name == unlocked).values(values)).rowcount == 1


def _insert(connection: Connection, taken: Lease) -> bool:
    """Insert a lease that nobody ever held; return whether nobody else was faster."""
    values = {"name": taken.name, "token": taken.token, "holder": taken.holder, "beat": taken.beat}
    return connection.execute(_INSERT, values).rowcount == 1
