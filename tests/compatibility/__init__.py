# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which cores deploy to which distributions: run, not claimed."""
