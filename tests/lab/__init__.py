# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Systemd test hosts in podman, and the demo that runs on one."""
