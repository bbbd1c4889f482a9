"""A receiver of webhooks on this machine, which answers as its test asks."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from typing_extensions import override

Answer = Callable[[BaseHTTPRequestHandler], None]


class Receiver(ThreadingHTTPServer):
    """Keeps what it gets, and answers each post.

    Attributes:
        answer: Answers one post; may block until `released`.
        posts: Headers, by lower-case name, and body of each post.
        has_come: Set with each post.
        released: Set at the end.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer: Answer = with_status(204)
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.has_come = threading.Event()
        self.released = threading.Event()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}/hook?x=1"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Keep a post, and answer it."""
        receiver = self.server
        assert isinstance(receiver, Receiver)
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        receiver.posts.append((headers | {"path": self.path}, body))
        receiver.has_come.set()
        receiver.answer(self)

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


def with_status(status: int, **headers: str) -> Answer:
    """Answer with a status."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()

    return answer


def hang(request: BaseHTTPRequestHandler) -> None:
    """Answer nothing until the test is over."""
    assert isinstance(request.server, Receiver)
    request.server.released.wait(60)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver."""
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.released.set()
            receiver.shutdown()
            thread.join()
