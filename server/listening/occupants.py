"""Who listens at a place, as far as Linux shows it to this user."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from server.addresses import as_ipv4

THIS_PROCESS: Final = "this process"
_LISTENING: Final = "0A"
_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def occupant_of(host: str, port: int) -> str:
    """Return who has a port at an IP address, such as `process 812 (bandit-server)`."""
    inodes = [
        inode
        for found, inode in _listeners(port)
        if found == host or _is_everywhere(found) or _is_everywhere(host)
    ]
    if not inodes:
        return "another program, or by a connection from this port"
    return next(filter(None, map(_owner_of, inodes)), "another user's program")


def _listeners(port: int) -> Iterator[tuple[str, str]]:
    """Yield the IP address and the inode of each socket that listens at a port."""
    for table in _TABLES:
        with suppress(OSError):
            for row in table.read_text().splitlines()[1:]:
                columns = row.split()
                host, _, hexadecimal = columns[1].partition(":")
                if columns[3] == _LISTENING and int(hexadecimal, 16) == port:
                    yield _address(host), columns[9]


def _address(hexadecimal: str) -> str:
    """Return the IP address that the kernel writes as words of 32 bits in the machine's byte order."""
    words = [bytes.fromhex(hexadecimal[i : i + 8]) for i in range(0, len(hexadecimal), 8)]
    found = ip_address(b"".join(word[::-1] if sys.byteorder == "little" else word for word in words))
    return as_ipv4(str(found))


def _is_everywhere(host: str) -> bool:
    return ip_address(host).is_unspecified


def _owner_of(inode: str) -> str:
    """Return the process that has a socket; empty if this user may not see it."""
    for process in Path("/proc").iterdir():
        if re.fullmatch(r"\d+", process.name, re.ASCII):
            with suppress(OSError):
                for descriptor in (process / "fd").iterdir():
                    if descriptor.readlink().name == f"socket:[{inode}]":
                        if int(process.name) == os.getpid():
                            return THIS_PROCESS
                        return f"process {process.name} ({(process / 'comm').read_text().strip()})"
    return ""
