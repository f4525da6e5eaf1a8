"""Systemd test hosts in podman, and the demo that runs on one."""
