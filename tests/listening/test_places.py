"""Every address of a name, or none, and no place that another program has."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Any, Final

import grpc
import pytest

from benchmarks.harness.processes import REPOSITORY, free_port
from server.addresses import is_loopback
from server.app.shared_port import reserved_places
from server.listening.errors import ListenError
from server.listening.places import Resolver, claim, places_of
from server.rpc.ports import Ports

V4, V6 = socket.AF_INET, socket.AF_INET6
SHARING = (socket.SO_REUSEADDR, socket.SO_REUSEPORT)


def resolving(*hosts: str) -> Resolver:
    """Return a resolver for a name with these addresses."""

    def resolve(_host: str, port: int) -> Sequence[tuple[Any, ...]]:
        return [(V6 if ":" in host else V4, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]

    return resolve


def stranger(
    host: str, *options: int, port: int | None = None, is_dual: bool = False, listens: bool = True
) -> socket.socket:
    """Return a socket of another program, by default at a port that no other test is given meanwhile."""
    other = socket.socket(V6 if ":" in host else V4)
    if ":" in host:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not is_dual))
    for option in options:
        other.setsockopt(socket.SOL_SOCKET, option, 1)
    other.bind((host, free_port() if port is None else port))
    if listens:
        other.listen()
    return other


def claimed(address: str, resolve: Resolver | None = None) -> list[str]:
    """Claim an address and let go of it again; return its places."""
    found = claim(address, resolve)
    for bound in found.values():
        bound.close()
    return [str(place) for place in found]


STRANGERS: dict[str, tuple[str, tuple[int, ...], bool, bool]] = {
    "IPv4 loopback": ("127.0.0.1", (), False, True),
    "IPv4 loopback, shared": ("127.0.0.1", SHARING, False, True),
    "IPv4 loopback, bound only": ("127.0.0.1", (), False, False),
    "IPv6 loopback": ("::1", (socket.SO_REUSEADDR,), False, True),
    "IPv6 loopback, shared": ("::1", SHARING, False, True),
    "all of IPv4": ("0.0.0.0", (), False, True),  # noqa: S104
    "all of IPv4, shared": ("0.0.0.0", SHARING, False, True),  # noqa: S104
    "all of IPv6": ("::", SHARING, False, True),
    "both families": ("::", (socket.SO_REUSEADDR,), True, True),
}


@pytest.mark.parametrize("name", STRANGERS)
@pytest.mark.parametrize("host", ["localhost", "0.0.0.0", "[::]"])  # noqa: S104
def test_a_port_that_is_taken_anywhere_is_refused(name: str, host: str) -> None:
    """Whoever has the port at one address, in whichever way; once it is let go of, the claim succeeds."""
    place, options, is_dual, listens = STRANGERS[name]
    with stranger(place, *options, is_dual=is_dual, listens=listens) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            ListenError, match=rf"can't listen at .*:{port} is taken by .*choose another port"
        ):
            claim(f"{host}:{port}")
    assert claimed(f"{host}:{port}")


def test_the_error_names_the_address_and_the_process() -> None:
    """It gives the one address of several that failed and, where the system shows it, who has it."""
    with stranger("::1") as other:
        port = other.getsockname()[1]
        with pytest.raises(ListenError) as caught:
            claim(f"localhost:{port}")
    who = "another address of this server: ch" if sys.platform == "linux" else "another program"
    assert str(caught.value).startswith(f"can't listen at localhost:{port}: [::1]:{port} is taken by {who}")


@pytest.mark.parametrize("host", ["::ffff:127.0.0.1", "::FFFF:7f00:1"])
def test_an_ipv4_address_in_the_form_of_ipv6_is_that_address(host: str) -> None:
    """Only the machine itself reaches its loopback address, in whichever form and version of Python."""
    assert claimed(f"[{host}]:0")[0].startswith("127.0.0.1:")
    assert is_loopback(f"[{host}]:0")


def test_localhost_is_loopback_in_capitals() -> None:
    """Names have no case."""
    assert is_loopback("LocalHost:0")
    assert len(claimed("LocalHost:0")) == len(claimed("localhost:0"))


@pytest.mark.parametrize("host", ["224.0.0.1", "255.255.255.255", "ff02::1", "fe80::1"])
def test_an_address_to_which_no_client_can_connect_is_refused(host: str) -> None:
    """A socket can be bound at some of them, and a server would say that it serves."""
    with pytest.raises(ListenError, match=f"{host} (stands for many machines|is of one of this machine's)"):
        claim("bandit.internal:0", resolving(host))


def test_localhost_is_both_loopback_addresses() -> None:
    """Clients of gRPC try both, whatever the hosts file has; both get the one free port."""
    first, second = claimed("localhost:0")
    assert first.startswith("127.0.0.1:")
    assert second == f"[::1]:{first.rpartition(':')[2]}"


def test_a_name_with_several_addresses_takes_all() -> None:
    """Each of its addresses is bound once, at one port."""
    resolve = resolving("127.0.0.1", "127.0.0.2", "127.0.0.1", "::1")
    places = claimed("bandit.internal:0", resolve)
    assert [place.rpartition(":")[0] for place in places] == ["127.0.0.1", "127.0.0.2", "[::1]"]
    assert len({place.rpartition(":")[2] for place in places}) == 1


def test_of_a_name_that_is_taken_in_part_nothing_stays_bound() -> None:
    """After the refusal another program can take the other addresses."""
    with stranger("127.0.0.3") as other:
        port = other.getsockname()[1]
        with pytest.raises(ListenError, match=rf"127\.0\.0\.3:{port} is taken"):
            claim(f"bandit.internal:{port}", resolving("127.0.0.2", "127.0.0.3"))
        stranger("127.0.0.2", port=port).close()


def test_an_address_of_another_machine_is_refused() -> None:
    """A name that stands for this machine and another one is not half served."""
    with pytest.raises(ListenError, match=r"198\.51\.100\.7 is not an address of this machine"):
        claim("bandit.internal:0", resolving("127.0.0.1", "198.51.100.7"))


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70, "a..b"])
def test_a_name_without_an_address_is_refused(host: str) -> None:
    """The error names it."""
    with pytest.raises(ListenError, match=rf"{host} has no address"):
        claim(f"{host}:0")


@pytest.mark.parametrize("hosts", [("0.0.0.0",), ("::",), ("127.0.0.1", "::")])  # noqa: S104
def test_a_wildcard_is_every_address(hosts: tuple[str, ...]) -> None:
    """`0.0.0.0` and `[::]` are the same, for every listener: all addresses of both families."""
    (place,) = places_of("bandit.internal:50051", resolving(*hosts))
    assert str(place) == "[::]:50051"


OPEN_ALL: Final = """
import asyncio
import grpc
from server.rpc.ports import Ports

async def main():
    for host in ("localhost", "0.0.0.0", "[::]", "[::1]"):
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        try:
            print(host, Ports(server, None).open(f"{host}:0") > 0)
        except Exception as error:
            print(error)

asyncio.run(main())
"""


def open_all_in(kind: str, prepare: str) -> list[str]:
    """Return what a program prints that opens servers in a namespace of this kind, prepared so."""
    if shutil.which("unshare") is None:
        pytest.skip("needs namespaces of its own, on Linux")
    namespace = ["unshare", "--map-root-user", kind, "sh", "-c"]
    if subprocess.run([*namespace, prepare], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not allow namespaces of one's own")
    done = subprocess.run(
        [*namespace, f'{prepare} && exec "$0" -c "$1"', sys.executable, OPEN_ALL],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.splitlines()


def test_a_machine_without_ipv6_serves_names_and_wildcards() -> None:
    """Its `::1` is left out, since nobody can listen there; as an address of its own it is refused."""
    printed = open_all_in("--net", "ip link set lo up && sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
    assert printed == [
        "localhost True",
        "0.0.0.0 True",
        "[::] True",
        "can't listen at [::1]:0: ::1 is not an address of this machine",
    ]


def test_a_machine_that_does_not_list_descriptors_is_served() -> None:
    """Some containers and chroots have no /proc."""
    printed = open_all_in("--mount", "mount -t tmpfs none /proc")
    assert printed[:3] == ["localhost True", "0.0.0.0 True", "[::] True"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])  # noqa: S104
def test_workers_places_are_taken_before_they_listen(host: str) -> None:
    """Two servers that start at once can't both have them, and workers can join."""
    with reserved_places(f"{host}:0") as places, ExitStack() as stack:
        address = f"{host}:{places[0].port}"
        with pytest.raises(ListenError, match="is taken"):
            claim(address)
        with pytest.raises(ListenError, match="is taken"), reserved_places(address):
            pass
        for place in [*places, *places]:
            worker = stranger(place.host, *SHARING, port=place.port, is_dual=place.is_everywhere)
            stack.enter_context(closing(worker))
        with pytest.raises(ListenError, match="is taken"), reserved_places(address):
            pass


async def test_a_place_that_is_lost_to_a_race_is_no_half() -> None:
    """If another program takes one of them after the check, the server is refused."""
    with stranger("::1") as other:
        port = other.getsockname()[1]
        places = places_of(f"localhost:{port}")
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        with pytest.raises(ListenError, match=rf"\[::1\]:{port} was free and is now taken by"):
            Ports(server, None).open(f"localhost:{port}", places)
        await server.stop(0)
