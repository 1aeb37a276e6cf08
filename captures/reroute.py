"""Send every upstream connection of mitmproxy to the recorded server on the loopback address.

The names of the capture exist nowhere. Only the address of the connection changes: the URL, the
Host header, the TLS server name and the certificate check stay those of the name.
"""

from __future__ import annotations

import os

from mitmproxy.proxy.server_hooks import ServerConnectionHookData

__all__ = ["server_connect"]

_HTTP_PORTS = (80, 8080)


def server_connect(data: ServerConnectionHookData) -> None:
    """Replace name and port by 127.0.0.1 and the port on which nginx listens for that scheme."""
    if data.server.address is not None:
        plain = data.server.address[1] in _HTTP_PORTS
        port = os.environ["CAPTURE_HTTP_PORT" if plain else "CAPTURE_HTTPS_PORT"]
        data.server.address = ("127.0.0.1", int(port))
