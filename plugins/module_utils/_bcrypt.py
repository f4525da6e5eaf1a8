# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""bcrypt as the host's own libcrypt has it, which knows the host's users by such hashes too."""

from __future__ import annotations

import base64
import ctypes
import os
import string

LIBRARY = "libcrypt.so.1"
COST = 10
SALT_BYTES = 16
SALT_LETTERS = 22
LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits
# bcrypt has base64 of its own, in another order of letters.
OWN_LETTERS = bytes.maketrans((LETTERS + "+/").encode(), ("./" + LETTERS).encode())


def _crypt(password: str, setting: str) -> str:
    """Return the hash of a password; its setting is method, cost and salt, or a hash with them."""
    crypt = ctypes.CDLL(LIBRARY).crypt
    crypt.restype = ctypes.c_char_p
    crypt.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    found = (crypt(password.encode(), setting.encode()) or b"*").decode()
    if found.startswith("*"):
        raise OSError("%s does not know a hash such as %s" % (LIBRARY, setting[:7]))
    return found


def hashed(password: str, known: str = "") -> str:
    """Return the known hash where it is one of this password, else a new one."""
    if known.startswith("$2") and _crypt(password, known) == known:
        return known
    drawn = base64.b64encode(os.urandom(SALT_BYTES)).translate(OWN_LETTERS)
    return _crypt(password, "$2b$%02d$%s" % (COST, drawn[:SALT_LETTERS].decode()))
