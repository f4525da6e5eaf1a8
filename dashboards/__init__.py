# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Grafana dashboards as code, and what draws, measures and proves them (development only)."""
