"""A post is sent to where it may be, signed for whom it is, and ends in time whatever the receiver does."""

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

import pytest

from server.services.webhooks.post import make_post
from server.services.webhooks.sender import send
from server.store.records import Event
from tests.bandit.builders import START
from tests.support.receiver import Receiver, hang, receiving, with_status

SECRETS = (b"a" * 24, b"b" * 24)
EVENT = Event(
    kind="concluded",
    arm="v2",
    actor="ann",
    reason="café \u2028",
    figures={"e": 3.5},
    experiment=7,
    name="team-a/ranker",
    sequence=12,
    at=START,
    revision=5,
    epoch=None,
)
POST = make_post(EVENT, SECRETS, START)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver on this machine."""
    with receiving() as opened:
        yield opened


def test_a_post_is_a_standard_webhook(receiver: Receiver) -> None:
    """The receiver can check id, time and body with either secret, and reads type, time and data."""
    assert send(urlsplit(receiver.url), POST) is None
    ((headers, body),) = receiver.posts
    assert headers["path"] == "/hook?x=1"
    assert headers["content-type"] == "application/json"
    assert headers["host"] == urlsplit(receiver.url).netloc
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = [
        base64.b64encode(hmac.new(each, signed, hashlib.sha256).digest()).decode() for each in SECRETS
    ]
    assert headers["webhook-signature"] == " ".join(f"v1,{each}" for each in expected)
    assert headers["webhook-timestamp"] == str(int(START.timestamp()))
    sent = json.loads(body)
    assert (sent["type"], sent["timestamp"]) == ("experiment.concluded", "2026-03-01T12:00:00Z")
    assert sent["data"] == {
        "experiment": "team-a/ranker",
        "sequence": 12,
        "arm": "v2",
        "actor": "ann",
        "request_id": None,
        "revision": 5,
        "epoch": None,
        "reason": "café \u2028",
        "figures": {"e": 3.5},
    }


@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_status_of_2xx_is_taken(receiver: Receiver, status: int) -> None:
    """Any of them will do."""
    receiver.answer = with_status(status)
    assert send(urlsplit(receiver.url), POST) is None


@pytest.mark.parametrize("status", [400, 404, 410, 500, 503])
def test_other_statuses_are_failures(receiver: Receiver, status: int) -> None:
    """The error has the status."""
    receiver.answer = with_status(status)
    assert send(urlsplit(receiver.url), POST) == f"status {status}"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(receiver: Receiver, status: int) -> None:
    """A receiver can't send the post elsewhere."""
    receiver.answer = with_status(status, Location=receiver.url)
    assert send(urlsplit(receiver.url), POST) == f"status {status}: redirects are not followed"
    assert len(receiver.posts) == 1


def test_a_receiver_that_hangs_costs_a_bounded_time(receiver: Receiver) -> None:
    """Without an answer the post has failed."""
    receiver.answer = hang
    assert send(urlsplit(receiver.url), POST, seconds=0.2) == "no answer within 0.2 s"


def test_an_answer_byte_by_byte_costs_a_bounded_time(receiver: Receiver) -> None:
    """A receiver that always sends something within the time of a read gains nothing by it."""

    def trickle(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nx: ")
        while not receiver.released.wait(0.05):
            request.wfile.write(b"x")
            request.wfile.flush()

    receiver.answer = trickle
    began_at = time.monotonic()
    assert send(urlsplit(receiver.url), POST, seconds=0.3) == "no answer within 0.3 s"
    assert time.monotonic() - began_at < 10


def test_nobody_at_the_address() -> None:
    """A refused connection is a failure in one line."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    error = send(urlsplit(f"http://127.0.0.1:{port}/"), POST)
    assert error is not None
    assert "refused" in error
    assert "\n" not in error


def test_a_receiver_without_tls(receiver: Receiver) -> None:
    """A post for https is not sent in plain text."""
    error = send(urlsplit(receiver.url.replace("http:", "https:")), POST)
    assert error is not None
    assert "SSL" in error
    assert receiver.posts == []


def test_an_answer_that_is_no_http() -> None:
    """A receiver that speaks something else has not taken the post."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            link, _ = listening.accept()
            with link:
                link.recv(65536)
                link.sendall(b"220 smtp\x1b[31m ready\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        error = send(urlsplit(f"http://127.0.0.1:{listening.getsockname()[1]}/"), POST)
        thread.join()
    assert error is not None
    assert error.isprintable()


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://169.254.169.254/latest", "link-local"),
        ("https://[fe80::1]/", "link-local"),
        ("https://[::ffff:169.254.169.254]/", "link-local"),
        ("https://0.0.0.0/", "unspecified"),
        ("https://[::]/", "unspecified"),
        ("https://224.0.0.1/", "multicast"),
        ("http://192.0.2.1/", "another machine without TLS"),
    ],
)
def test_some_addresses_get_nothing(url: str, kind: str) -> None:
    """The addresses of cloud metadata are among them, in every notation."""
    error = send(urlsplit(url), POST, seconds=0.2)
    assert error is not None
    assert "nothing is sent to" in error
    assert kind in error
