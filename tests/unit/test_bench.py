# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run costs is counted from Ansible's own words."""

from __future__ import annotations

from tests.bench import roles

LOG = """\
TASK [Gather] ***
<box> SSH: EXEC ssh -o A=b box '/bin/sh -c '"'"'echo PLATFORM; uname'"'"''
<box> SSH: EXEC ssh -o A=b box '/bin/sh -c '"'"'/usr/bin/python3.11 && sleep 0'"'"''
TASK [linmonitor.stack.prometheus : Send it] ***
Using module file /x/stat.py
<box> SSH: EXEC ssh -o A=b box '/bin/sh -c '"'"'( umask 77 && mkdir -p x )'"'"''
<box> SSH: EXEC sftp -b - -o A=b '[box]'
<box> SSH: EXEC ssh -tt box '/bin/sh -c '"'"'/usr/bin/python3 /x/AnsiballZ_stat.py && sleep 0'"'"''
<localhost> EXEC /bin/sh -c 'python3 && sleep 0'
"""


def test_modules_and_transfers_are_counted_for_the_role_that_they_belong_to():
    assert roles.executions(LOG) == {"": (1, 2), "prometheus": (1, 3)}
