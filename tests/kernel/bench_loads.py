# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps the programs busy while the benchmark measures them."""

from __future__ import annotations

import multiprocessing
import os
import resource
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from . import net
from .cases_block import BLOCK, read_direct

LOST = 4000  # connections to nobody
FOLDER = Path("/var/tmp")  # on the disk that is read


def read_on(path: str, processor: int | None) -> None:
    """Read from a file, past the page cache, on one processor or on any."""
    if processor is not None:
        os.sched_setaffinity(0, {processor})
    read_direct(path, 20_000, 16)


def reader(processors: Sequence[int | None]) -> Callable[[float], None]:
    """Return a load: one process for each of some processors reads from the disk."""

    def read_disk(seconds: float) -> None:
        with tempfile.NamedTemporaryFile(dir=FOLDER) as file:
            file.write(bytes(1024 * BLOCK))
            file.flush()
            os.fsync(file.fileno())
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                workers = [
                    multiprocessing.Process(target=read_on, args=(file.name, processor))
                    for processor in processors
                ]
                for worker in workers:
                    worker.start()
                for worker in workers:
                    worker.join()

    return read_disk


def talk(seconds: float) -> None:
    """Open connections and say a few words on each, over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with socket.create_connection(server.getsockname()) as near:
                far, _ = server.accept()
                for _ in range(20):
                    near.send(b"x")
                    far.recv(1)
                    far.send(b"y")
                    near.recv(1)
                far.close()


def lose_syns(seconds: float) -> None:
    """Open thousands of connections to nobody: each SYN is sent again after a second."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(LOST + 200, hard), hard))
    with net.topology():
        sockets = [net.client(socket.AF_INET) for _ in range(LOST)]
        for sock in sockets:
            sock.setblocking(False)
            sock.connect_ex((net.VOID[socket.AF_INET], 9))
        time.sleep(seconds)
        for sock in sockets:
            sock.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


LOADS = {"block": reader([None, None]), "tcp": talk, "loss": lose_syns}
