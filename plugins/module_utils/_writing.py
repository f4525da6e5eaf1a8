# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say which file could not be written."""

from __future__ import annotations

import contextlib
from typing import Iterator


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Name a path in an error of the system that names none, as a full disk's, which comes late."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, path) from error
        raise
