"""Sends one post over HTTP, and trusts the receiver with nothing.

A name is looked up once, and the address that was checked is the one that is connected to. Redirects are not
followed, the answer's body is not read, and whatever the receiver does, a post ends in time.
"""

import http.client
import ipaddress
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeAlias
from urllib.parse import SplitResult

from server.printing import printable
from server.services.webhooks.post import Post

SECONDS: Final = 10.0
"""How long a post may take from the connection to the head of the answer."""

_MOST_ERROR: Final = 200
_PORTS: Final = {"https": 443, "http": 80}
_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class RefusedAddressError(Exception):
    """The endpoint's name stands for an address to which nothing is sent."""


def send(url: SplitResult, post: Post, *, seconds: float = SECONDS) -> str | None:
    """Send a post. Blocks.

    Returns:
        None once the receiver has taken it, with a status of 2xx; else why it has not, in one line.
    """
    try:
        status = _send(url, post, seconds)
    except TimeoutError:
        return f"no answer within {seconds:g} s"
    except (OSError, http.client.HTTPException, RefusedAddressError, ValueError) as error:
        return printable(str(error) or type(error).__name__)[:_MOST_ERROR]
    if status in range(200, 300):
        return None
    return f"status {status}" + (": redirects are not followed" if status in range(300, 400) else "")


def _send(url: SplitResult, post: Post, seconds: float) -> int:
    """Send a post, and return the status of its answer."""
    host, port = url.hostname or "", url.port or _PORTS[url.scheme]
    address = _address_of(host, port, is_plain=url.scheme == "http")
    with socket.create_connection((address, port), timeout=seconds) as link, _cut_after(link, seconds):
        if url.scheme == "http":
            return _ask(link, url, post)
        with ssl.create_default_context().wrap_socket(link, server_hostname=host) as secured:
            return _ask(secured, url, post)


def _ask(link: socket.socket, url: SplitResult, post: Post) -> int:
    """Send a post over a connection, and return the status of its answer."""
    connection = http.client.HTTPConnection(url.hostname or "", url.port)
    connection.sock = link
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    connection.request("POST", target, post.body, {"host": url.netloc, **post.headers})
    return connection.getresponse().status


@contextmanager
def _cut_after(link: socket.socket, seconds: float) -> Iterator[None]:
    """Cut a connection once time is up, for a receiver may answer byte by byte, each in time.

    Raises:
        TimeoutError: In place of what the block returned or raised after that.
    """
    has_run_out = threading.Event()
    with socket.socket(fileno=os.dup(link.fileno())) as own:  # TLS takes the other one over

        def cut() -> None:
            has_run_out.set()
            with suppress(OSError):
                own.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(seconds, cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            if has_run_out.is_set():
                raise TimeoutError from error
            raise
        finally:
            timer.cancel()
    if has_run_out.is_set():
        raise TimeoutError


def _address_of(host: str, port: int, *, is_plain: bool) -> str:
    """Look a name up; RefusedAddressError if one of its addresses is not to be posted to."""
    found = [info[4][0] for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for text in found:
        rule = _rule_against(ipaddress.ip_address(str(text).partition("%")[0]), is_plain=is_plain)
        if rule:
            raise RefusedAddressError(f"{host} is {text}: nothing is sent to {rule}")
    return str(found[0])


def _rule_against(address: _Address, *, is_plain: bool) -> str | None:
    """Return to what kind of address nothing is sent, if this one is of it."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return "link-local, multicast and unspecified addresses"
    if is_plain and not address.is_loopback:
        return "another machine without TLS"
    return None
