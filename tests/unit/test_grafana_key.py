# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The judgement of a repository's key, against keys that gpg makes."""

from __future__ import annotations

import calendar
import tempfile

import pytest
from ansible_collections.linmonitor.stack.plugins.filter.grafana import judge_key

from tests.grafana.repository import Key

BORN = calendar.timegm((2020, 1, 1, 0, 0, 0))
DAY = 86400


@pytest.fixture(scope="module")
def keys():
    with tempfile.TemporaryDirectory(prefix="gpg") as home:
        limited = Key.make(home, "limited", "20200101T000000", "200d")
        endless = Key.make(home, "endless")
        yield {
            "limited": (limited.fingerprint, limited.public().decode()),
            "endless": (endless.fingerprint, endless.public().decode()),
        }


def judge(keys, name: str, day: float = 0) -> dict:
    fingerprint, text = keys[name]
    return judge_key(text, fingerprint, BORN + day * DAY)


def test_the_pinned_key_is_accepted(keys):
    assert judge(keys, "endless", 9999) == {"fault": "", "expiring": ""}


@pytest.mark.parametrize(
    ("day", "fault", "expiring"),
    [
        (109, "", ""),
        (111, "", "2020-07-19"),
        (199, "", "2020-07-19"),
        (201, "it expired on 2020-07-19", "2020-07-19"),
    ],
)
def test_expiry_is_seen_ninety_days_ahead(keys, day, fault, expiring):
    assert judge(keys, "limited", day) == {"fault": fault, "expiring": expiring}


def test_another_key_is_refused(keys):
    (wanted, _), (foreign, text) = keys["limited"], keys["endless"]
    assert judge_key(text, wanted)["fault"] == f"it holds {foreign}, expected is {wanted} alone"


def test_the_pinned_key_with_a_companion_is_refused(keys):
    text = keys["endless"][1] + keys["limited"][1]
    assert "alone" in judge_key(text, keys["endless"][0])["fault"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>404</html>",
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!!!\n=AAAA\n-----END PGP PUBLIC KEY BLOCK-----",
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQEN\n=AAAA\n-----END PGP PUBLIC KEY BLOCK-----",
    ],
)
def test_what_is_no_key_is_refused(keys, text):
    fingerprint = keys["endless"][0]
    assert judge_key(text, fingerprint)["fault"]


def test_a_key_that_was_cut_off_is_refused(keys):
    fingerprint, text = keys["endless"]
    lines = text.splitlines()
    assert judge_key("\n".join([*lines[:5], *lines[-2:]]), fingerprint)["fault"]
