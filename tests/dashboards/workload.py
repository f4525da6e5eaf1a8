# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make some of everything that the programs count, at a steady pace; print how much as JSON.

workload.py SECONDS, on any host: loopback and one small file, standard library only.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

BLOCK, BLOCKS = 4096, 256
MINUTE, RATE = 60, 20  # seconds that are looked at, and that each rate reaches back
BACKLOG, CLIENTS = 5, 8  # listen(5) takes six connections; two clients must ask again
RETRY_SECONDS = 1.3  # a SYN is sent again after one second
LOOPBACK = "127.0.0.1"
NAME, READS, WRITES = 2, 3, 7  # columns of /proc/diskstats


class Workload:
    """Threads that count what they do until the time is over."""

    def __init__(self, seconds: float) -> None:
        """Start the clock."""
        self.end = time.monotonic() + seconds
        self.done: Counter[str] = Counter()

    def paced(self, seconds: float) -> bool:
        """Wait, and say whether there is time for another turn."""
        time.sleep(seconds)
        return time.monotonic() < self.end

    def disk(self) -> None:
        """Write and read blocks past the page cache."""
        page = mmap.mmap(-1, BLOCK)
        with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
            file.write(bytes(BLOCK * BLOCKS))
            file.flush()
            descriptor = os.open(file.name, os.O_RDWR | os.O_DIRECT)
            while self.paced(0.1):
                for _ in range(5):
                    place = self.done["writes"] % BLOCKS * BLOCK
                    os.pwrite(descriptor, page, place)
                    os.preadv(descriptor, [page], place)
                    self.done["writes"] += 1
            os.close(descriptor)

    def connects(self) -> None:
        """Open connections, two of three to a server and one to nobody."""
        with socket.create_server((LOOPBACK, 0)) as server, socket.socket() as nobody:
            nobody.bind((LOOPBACK, 0))  # holds the port, and does not listen
            while self.paced(0.1):
                for _ in range(2):
                    with socket.create_connection(server.getsockname()):
                        server.accept()[0].close()
                    self.done["ok"] += 1
                with socket.socket() as client:
                    client.connect_ex(nobody.getsockname())
                self.done["refused"] += 1

    def queue(self) -> None:
        """Let more clients meet a small accept queue than it takes."""
        while self.paced(0):
            with socket.create_server((LOOPBACK, 0), backlog=BACKLOG) as server:
                clients = [socket.socket() for _ in range(CLIENTS)]
                for client in clients:
                    client.setblocking(False)
                    client.connect_ex(server.getsockname())
                time.sleep(RETRY_SECONDS)
                for client in clients:
                    client.close()
            self.done["queues"] += 1

    def talk(self) -> None:
        """Send a byte to and fro."""
        with socket.create_server((LOOPBACK, 0)) as server:
            client = socket.create_connection(server.getsockname())
            peer, _ = server.accept()
            while self.paced(0.05):
                for one, other in ((client, peer), (peer, client)):
                    one.send(b"x")
                    other.recv(1)
                self.done["bytes"] += 2
            client.close()
            peer.close()

    def run(self) -> dict[str, float]:
        """Do all of it at once; return it per second, and the most that disks can show.

        A rate of the last minute reaches back beyond it; at most all that was until its end is in
        it.
        """
        began = time.monotonic()
        threads = [
            threading.Thread(target=work)
            for work in (self.disk, self.connects, self.queue, self.talk)
        ]
        for thread in threads:
            thread.start()
        time.sleep(max(0, self.end - MINUTE - RATE - time.monotonic()))
        before = disk_requests()
        for thread in threads:
            thread.join()
        now = time.monotonic()
        disks = {
            f"disk {name}": (count - before[name]) / MINUTE
            for name, count in disk_requests().items()
        }
        return disks | {name: count / (now - began) for name, count in self.done.items()}


def disk_requests() -> dict[str, int]:
    """Return the reads and writes of each disk and partition so far, everybody's."""
    lines = [line.split() for line in Path("/proc/diskstats").read_text().splitlines()]
    return {line[NAME]: int(line[READS]) + int(line[WRITES]) for line in lines}


if __name__ == "__main__":
    print(json.dumps(Workload(float(sys.argv[1])).run()))
