# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the stand-in package is made of; see assumptions.yml."""
