"""A server on this machine's loopback that gives the same package to everybody who asks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PACKAGE = "PACKAGE"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(PACKAGE.encode())

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def package_site() -> Iterator[int]:
    """Serve until the block ends; give the port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            serving.join()
