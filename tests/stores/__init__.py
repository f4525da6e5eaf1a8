# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What exporters say goes through our Prometheus into stores, and comes out of them the same."""
