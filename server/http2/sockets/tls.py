"""TLS as HTTP/2 demands it (RFC 9113 section 9.2), and the names in a client's certificate."""

import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, Final

PROTOCOL: Final = "h2"
"""What both sides must agree on in the handshake (ALPN)."""

_SUITES: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: ephemeral keys and authenticated encryption. All suites of TLS 1.3 have both."""

_NAMES: Final = frozenset({"DNS", "URI", "email", "IP Address"})
"""The kinds of subject alternative names that gRPC shows, under Python's words for them."""


def new_context() -> ssl.SSLContext:
    """Return a context for a server without a certificate: TLS 1.2 and 1.3, without renegotiation."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_SUITES)
    context.set_alpn_protocols([PROTOCOL])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    return context


def certificate_names(certificate: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the names in a verified certificate: the subject alternative names, then the common name.

    Args:
        certificate: As the `getpeercert` of an SSL object returns it; None or empty if there is none.
    """
    return tuple(_names(certificate)) if certificate else ()


def _names(certificate: Mapping[str, Any]) -> Iterator[str]:
    for kind, name in certificate.get("subjectAltName", ()):
        if kind in _NAMES:
            yield _ip_address(name) if kind == "IP Address" else name
    for attributes in certificate.get("subject", ()):
        for kind, value in attributes:
            if kind == "commonName":
                yield value
                return  # gRPC shows the first


def _ip_address(text: str) -> str:
    """Return an IP address in its usual form: OpenSSL writes 2001:DB8:0:0:0:0:0:1."""
    with suppress(ValueError):
        return str(ip_address(text.strip()))
    return text
