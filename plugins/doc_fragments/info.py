# Copyright: linmonitor.stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the info modules of this collection share in their documentation."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation shared by modules that look and never touch."""

    DOCUMENTATION = r"""
options:
  root:
    description:
      - Root of the file system to look at.
      - Another root than V(/) answers for a captured tree, for example in tests.
    type: path
    default: /
attributes:
  check_mode:
    description: Whether the module may run in check mode.
    support: full
    details: The module only looks, so it answers in check mode as it does otherwise.
  diff_mode:
    description: Whether the module shows what it changes.
    support: N/A
    details: The module changes nothing.
  idempotent:
    description: Whether a second run with the same arguments changes nothing.
    support: full
    details: The module changes nothing.
  platform:
    description: Operating systems the module works on.
    platforms: linux
    support: full
"""
