# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Grafana dashboards as code: what files/dashboards is generated from (development only)."""
