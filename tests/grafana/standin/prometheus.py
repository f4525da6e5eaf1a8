# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for a Prometheus behind TLS and basic authentication; it knows one sample of `up`.

prometheus.py PORT CERTIFICATE KEY LOGIN, where LOGIN is a file that holds user:password
"""

from __future__ import annotations

import base64
import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ANSWER = {
    "status": "success",
    "data": {"result": [{"metric": {"job": "test"}, "value": [1700000000, "1"]}]},
}


def server(port: int, certificate: str, key: str, login: str) -> ThreadingHTTPServer:
    """Return a server on loopback that answers who knows the login; the caller runs it."""
    wanted = "Basic " + base64.b64encode(login.encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers.get("Authorization") == wanted
            content = json.dumps(ANSWER).encode() if known else b"Unauthorized"
            self.send_response(200 if known else 401)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Stay silent: the journal must not hold who asked."""

    made = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    made.socket = context.wrap_socket(made.socket, server_side=True)
    return made


if __name__ == "__main__":
    port, certificate, key, login = sys.argv[1:]
    server(int(port), certificate, key, Path(login).read_text()).serve_forever()
