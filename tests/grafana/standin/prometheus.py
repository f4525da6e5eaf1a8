# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for a Prometheus; it knows one sample of `up` and answers GET and POST.

prometheus.py PORT [CERTIFICATE KEY LOGIN], where LOGIN is a file that holds user:password: then it
speaks TLS, and only to who knows the login
"""

from __future__ import annotations

import base64
import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SAMPLE = {"metric": {"job": "test"}, "value": [1700000000, "1"]}
ANSWER = {"status": "success", "data": {"resultType": "vector", "result": [SAMPLE]}}


def server(port: int, login: str = "", *pair: str) -> ThreadingHTTPServer:
    """Return a server on loopback that answers who knows the login, if there is one to know.

    A certificate and its key make it speak TLS. The caller runs it.
    """
    wanted = "Basic " + base64.b64encode(login.encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            known = not login or self.headers.get("Authorization") == wanted
            content = json.dumps(ANSWER).encode() if known else b"Unauthorized"
            self.send_response(200 if known else 401)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _serve

        def log_message(self, *_: object) -> None:
            """Stay silent: the journal must not hold who asked."""

    made = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    if pair:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
        made.socket = context.wrap_socket(made.socket, server_side=True)
    return made


if __name__ == "__main__":
    port, *guarded = sys.argv[1:]
    *pair, login = guarded or [""]
    server(int(port), Path(login).read_text() if login else "", *pair).serve_forever()
