# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write down what Alertmanager sends: one line per alert with path, status and name."""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Listener(BaseHTTPRequestHandler):
    """Takes notifications."""

    def do_POST(self):
        """Take one."""
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with Path("/run/listener.txt").open("a") as stream:
            for alert in said["alerts"]:
                print(self.path, alert["status"], alert["labels"]["alertname"], file=stream)
        self.send_response(200)
        self.end_headers()


HTTPServer(("127.0.0.1", 9099), Listener).serve_forever()
