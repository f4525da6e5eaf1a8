# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proof, on real kernels, that the programs' numbers are true."""
