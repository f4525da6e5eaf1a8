# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The versions of Prometheus beside the default, as parameters of tests.

`make test` leaves out those between the oldest and the newest; they run with `-m between`.
"""

from __future__ import annotations

import pytest

from tests.lab.prometheus import to_be_had

*_between, NEWEST = to_be_had()[1:]
OTHERS = [*(pytest.param(one, marks=pytest.mark.between) for one in _between), NEWEST]
