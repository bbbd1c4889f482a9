"""A rehearsal of a connection, which finds what no waiting mends: a bad option, port or file.

The driver reports a mistyped option as it reports a server that is away: without a code, in the language of
the machine. So its text is not read. It is made to connect to this process instead, which answers as a
server would up to the point where the driver has read all its options and files. Whatever fails until then
is no fault of the database, nor of the network or its names.
"""

import contextlib
import re
import select
import socket
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Final

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from server.store.errors import StorePlaceError
from server.store.postgresql.reasons import reason_of, secrets_of
from server.suggestions import did_you_mean

_HERE: Final = "127.0.0.1"
_ASKS_FOR_TLS: Final = (80_877_103).to_bytes(4, "big")
_ASKS_FOR_GSS: Final = (80_877_104).to_bytes(4, "big")
_ANSWERS: Final = {_ASKS_FOR_TLS: b"S", _ASKS_FOR_GSS: b"N"}
_REQUEST_BYTES: Final = 8
_LARGEST_PORT: Final = 65_535
_MOST_TURNS: Final = 100
_TURN_SECONDS: Final = 0.02
_NO_HOST_NAME: Final = re.compile(r"[@\s:/\\]")


def require_usable(params: Mapping[str, object]) -> None:
    """Raise unless a connection may come about with these parameters, once the database is there.

    What libpq accepts is accepted: of several hosts or ports one good one is enough.

    Args:
        params: As for `psycopg.connect`.

    Raises:
        StorePlaceError: An option, a port or a file can't be used.
    """
    _require_known(params)
    hosts, ports = (_parts(params, name) for name in ("host", "port"))
    _require_hosts(hosts)
    _require_ports(ports)
    _require_timeout(params)
    try:
        with socket.create_server((_HERE, 0)) as listener:
            failure = _rehearse(params, hosts, ports, listener)
    except OSError:  # a machine without the loopback address: the real connection will tell
        return
    if failure is not None:
        text, is_malformed = failure
        raise StorePlaceError(
            f"can't connect with these options: {reason_of(text, secrets_of(params))}",
            is_malformed=is_malformed,
        )


def _require_known(params: Mapping[str, object]) -> None:
    known = [option.keyword.decode() for option in pq.Conninfo.get_defaults()]
    for name, value in params.items():
        if name not in known:
            advice = did_you_mean(name, known)
            raise _malformed(f"PostgreSQL has no connection option {reason_of(repr(name), ())}{advice}")
        if not isinstance(value, str | int):
            raise _malformed(f"the connection option {name} is given more than once: give it once")
        if "\0" in str(value) or not _is_text(str(value)):
            raise _malformed(f"the connection option {name} holds a NUL byte or is not UTF-8: correct it")


def _require_hosts(hosts: Sequence[str]) -> None:
    """Raise if no host can be one. None is shown: what is not escaped in a password ends up there."""
    if hosts and all(_is_no_host(host) for host in hosts):
        raise _malformed(
            "the host has a character that no host has: in a password write @ : / and % as %40 %3A %2F and "
            "%25; several hosts are given as ?host=HOST:PORT&host=HOST:PORT"
        )


def _require_ports(ports: Sequence[str]) -> None:
    if ports and not any(_is_port(port) for port in ports):
        shown = reason_of(", ".join(ports), ())
        raise _malformed(f"the port must be a whole number from 1 to {_LARGEST_PORT}, got {shown}")


def _require_timeout(params: Mapping[str, object]) -> None:
    value = "".join(_parts(params, "connect_timeout"))
    try:
        int(float(value or 0))
    except (ValueError, OverflowError):
        raise _malformed(
            f"connect_timeout must be a number of seconds, got {reason_of(repr(value), ())}"
        ) from None


def _rehearse(
    params: Mapping[str, object], hosts: Sequence[str], ports: Sequence[str], listener: socket.socket
) -> tuple[str, bool] | None:
    """Connect here; return why that fails, and whether the options are at fault and no file; or else None."""
    n_addresses = len(_parts(params, "hostaddr") or hosts) or 1
    replaced = {
        **params,
        "hostaddr": ",".join([_HERE] * n_addresses),
        "port": ",".join([str(listener.getsockname()[1])] * (len(ports) or 1)),
    }
    try:
        connection = pq.PGconn.connect_start(make_conninfo("", **replaced).encode())  # type: ignore[arg-type]
    except psycopg.Error as error:
        return str(error), True
    with contextlib.closing(_Closing(connection)):
        if connection.status == pq.ConnStatus.BAD:
            return _text_of(connection, listener), True
        is_local = not any(map(_is_on_network, hosts)) or bool(_parts(params, "service"))
        if is_local or not _fails_later(connection, listener):
            return None
        return _text_of(connection, listener), False


class _Closing:
    """A connection of the driver's low level, as something with `close`."""

    def __init__(self, connection: pq.abc.PGconn) -> None:
        self.close = connection.finish


def _fails_later(connection: pq.abc.PGconn, listener: socket.socket) -> bool:
    """Answer what the driver sends until it has begun to talk of something else; return whether it fails."""
    with _peers_of(listener) as peers:
        status: int = pq.PollingStatus.WRITING
        for _ in range(_MOST_TURNS):
            watched: list[socket.socket | int] = [listener, connection.socket, *peers]
            written = [connection.socket] if status == pq.PollingStatus.WRITING else []
            ready, _, _ = select.select(watched, written, [], _TURN_SECONDS)
            if listener in ready:
                peers.append(listener.accept()[0])
            for peer in [each for each in peers if each in ready]:
                if not _answer(peer, peers):
                    return False
            status = connection.connect_poll()
            if status == pq.PollingStatus.FAILED:
                return True
    return False


def _answer(peer: socket.socket, peers: list[socket.socket]) -> bool:
    """Answer a question about encryption; return False if something else was sent."""
    asked = peer.recv(_REQUEST_BYTES)
    if not asked:
        peers.remove(peer)
        peer.close()
        return True
    answer = _ANSWERS.get(asked[4:])
    if answer is None:
        return False
    peer.sendall(answer)
    return True


@contextlib.contextmanager
def _peers_of(listener: socket.socket) -> Iterator[list[socket.socket]]:
    """The sockets that the driver connected to; closed at the end."""
    listener.setblocking(False)
    peers: list[socket.socket] = []
    try:
        yield peers
    finally:
        for peer in peers:
            peer.close()


def _text_of(connection: pq.abc.PGconn, listener: socket.socket) -> str:
    """Return the driver's reason, without the address of the rehearsal before it."""
    text = connection.error_message.decode("utf-8", "replace")
    _, place, reason = text.rpartition(str(listener.getsockname()[1]))
    return reason.partition(": ")[2] or text if place else text


def _parts(params: Mapping[str, object], name: str) -> Sequence[str]:
    """Return the values of a parameter that may be a list; from the environment, if it is not given."""
    value = params.get(name)
    if value is None:
        found = {option.keyword: option for option in pq.Conninfo.get_defaults()}[name.encode()]
        variable = None if found.val == found.compiled else found.val
        value = (variable or b"").decode("utf-8", "replace")
    return str(value).split(",") if str(value) else ()


def _is_on_network(host: str) -> bool:
    return not host.startswith(("/", "@"))


def _is_no_host(host: str) -> bool:
    if not host or not _is_on_network(host) or not _NO_HOST_NAME.search(host):
        return False
    try:
        ip_address(host)
    except ValueError:
        return True
    return False


def _is_port(text: str) -> bool:
    try:
        return not text.strip() or 1 <= int(text) <= _LARGEST_PORT
    except ValueError:
        return False


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _malformed(text: str) -> StorePlaceError:
    return StorePlaceError(text, is_malformed=True)
