# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""kernel_headers_info on captured trees."""

from __future__ import annotations

import pytest
from ansible_collections.linmonitor.stack.plugins.modules import kernel_headers_info
from hosts import HOSTS, Host, put_headers

POLICY = "linux-headers-6.1.0-32-amd64:\n  Installed: (none)\n  Candidate: 6.1.129-1\n"


def state(root: str, release: str, answer: str | None) -> dict:
    return kernel_headers_info.headers(root, release, lambda _package: answer)


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        (POLICY, "available", "linux-headers-6.1.0-32-amd64 6.1.129-1 can be installed"),
        ("", "missing", "have no linux-headers-6.1.0-32-amd64"),
        (None, "unknown", "no apt-cache or no package lists"),
    ],
)
def test_state_of_headers_that_are_not_installed(answer, expected, words, tmp_path):
    host = HOSTS["debian12"]
    found = state(host.write(tmp_path), host.release, answer)
    assert found["state"] == expected
    assert words in found["message"]
    assert found["build_link"] == "absent"


def test_installed_headers_need_no_repository(tmp_path):
    host = HOSTS["debian12"]
    root = host.write(tmp_path)
    put_headers(tmp_path, host.release)
    found = state(root, host.release, None)
    assert found["state"] == "installed"
    assert found["path"] == f"/usr/src/linux-headers-{host.release}"


def test_headers_of_another_kernel_do_not_count(tmp_path):
    host = HOSTS["debian12"]
    root = host.write(tmp_path)
    put_headers(tmp_path, "6.1.0-31-amd64")
    assert state(root, host.release, "")["state"] == "missing"


@pytest.mark.parametrize("name", HOSTS)
def test_module_answers_on_every_host(name, run, tmp_path):
    host = HOSTS[name]
    root = host.write(tmp_path)
    result = run(kernel_headers_info, root=root, options=["CONFIG_MINE"])
    assert result["release"] == host.release
    assert result["machine"] == host.machine
    assert result["container"] is host.container
    assert result["headers"]["state"] == "unknown"
    assert result["config"]["options"]["CONFIG_MINE"] == "absent"
    assert result["reboot_pending"] is (None if host.container else False)
    checked = run(kernel_headers_info, root=root, options=["CONFIG_MINE"], _ansible_check_mode=True)
    assert {**checked, "invocation": 0} == {**result, "invocation": 0}


def test_newer_kernel_waits_for_a_reboot(run, tmp_path):
    kernels = ("6.1.0-9-amd64", "6.1.0-32-amd64")
    root = Host("6.1.0-9-amd64", kernels=kernels).write(tmp_path)
    result = run(kernel_headers_info, root=root)
    assert result["reboot_pending"] is True
    assert result["installed_kernels"] == list(kernels)


def test_running_host_is_read_without_error(run):
    result = run(kernel_headers_info)
    assert result["release"]
    assert result["headers"]["state"] in ("installed", "available", "missing", "unknown")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"options": ["BPF"]}, "'BPF' is not of the form"), ({"root": "/nowhere"}, "/nowhere holds")],
)
def test_wrong_argument_is_an_error(run, wrong, words):
    result = run(kernel_headers_info, **wrong)
    assert result["failed"] and words in result["msg"]
