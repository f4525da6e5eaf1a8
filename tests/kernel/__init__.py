# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: linmonitor.stack contributors
"""Proof, on real kernels, that the programs' numbers are true."""
