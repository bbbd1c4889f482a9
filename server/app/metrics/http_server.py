"""The HTTP server of the metrics, at every address of a name or none."""

import socket
from threading import Thread
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from server.listening.places import claim

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class _QuietHandler(WSGIRequestHandler):
    """Answers a scrape without a line on standard error."""

    def log_message(self, *_args: object) -> None:
        """Log nothing."""


class _MetricsServer(ThreadingWSGIServer):
    """Answers scrapes at a socket that is bound.

    Args:
        bound: The socket; from now on the server's.
        app: Answers them.
    """

    def __init__(self, bound: socket.socket, app: "WSGIApplication") -> None:
        host, port = bound.getsockname()[:2]
        super().__init__((host, port), _QuietHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = bound
        self.server_name, self.server_port = host, port
        self.setup_environ()
        self.set_app(app)


def serve_registry(address: str, registry: CollectorRegistry) -> int:
    """Answer scrapes in separate threads, as long as the process lives; return the port.

    Raises:
        ListenError: It can't be done at every address of the name.
    """
    app = make_wsgi_app(registry)
    claimed = claim(address)
    for bound in claimed.values():
        server = _MetricsServer(bound, app)
        server.server_activate()
        Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return next(iter(claimed)).port
