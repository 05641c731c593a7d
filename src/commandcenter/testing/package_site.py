"""Servers on this machine's loopback: one gives the same to all, one is an index of pip's."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PACKAGE = "PACKAGE"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(PACKAGE.encode())

    def log_message(self, *_: object) -> None:
        """Print nothing."""


_WHEEL = "plain_package-1.0-py3-none-any.whl"
_METADATA = "Metadata-Version: 2.1\nName: plain-package\nVersion: 1.0\n"
_TAGS = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def _wheel() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("plain_package.py", f'SAYS = "{PACKAGE}"\n')
        archive.writestr("plain_package-1.0.dist-info/METADATA", _METADATA)
        archive.writestr("plain_package-1.0.dist-info/WHEEL", _TAGS)
        archive.writestr("plain_package-1.0.dist-info/RECORD", "")
    return content.getvalue()


class _IndexHandler(_Handler):
    def do_GET(self) -> None:
        page = f'<!DOCTYPE html><html><body><a href="/{_WHEEL}">{_WHEEL}</a></body></html>'
        pages = {"/simple/plain-package/": page.encode(), f"/{_WHEEL}": _wheel()}
        content = pages.get(self.path, b"")
        self.send_response(200 if content else 404)
        self.send_header("Content-Type", "text/html" if content[:1] == b"<" else "application/zip")
        self.send_header("Content-Length", f"{len(content)}")
        self.end_headers()
        self.wfile.write(content)


def package_site() -> AbstractContextManager[int]:
    """Serve `PACKAGE` at every path until the block ends; give the port."""
    return _serving(_Handler)


def package_index() -> AbstractContextManager[int]:
    """Serve an index, at /simple, of one package (plain-package) until the block ends."""
    return _serving(_IndexHandler)


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            serving.join()
