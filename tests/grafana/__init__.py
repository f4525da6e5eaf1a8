# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Grafana's tests: a stand-in package, a repository for it, and checks of any Grafana."""
