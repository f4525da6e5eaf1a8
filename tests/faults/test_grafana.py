# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs at once, and a service that is killed again and again: a STAND-IN for Grafana."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.roles import PASSWORD, Host, grafana
from tests.faults.watch import watched
from tests.lab.deployed import failures


@pytest.fixture(scope="module")
def bare_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Boot the host; nothing is deployed to it yet."""
    host = Host("faults-grafana", grafana(tmp_path_factory.mktemp("grafana")))
    yield host
    host.close()


@pytest.mark.reliability("Grafana's stand-in: two plays at once", "told of each other, whole")
def test_two_plays_at_once_are_told_of_each_other(bare_host: Host) -> None:
    both = [bare_host.start() for _ in range(2)]
    outputs = [" ".join(process.communicate()[0].split()) for process in both]
    told = ["Another run is at work on grafana of box" in output for output in outputs]
    assert sorted(told) == [False, True], outputs
    for process, output, second in zip(both, outputs, told):
        # On a machine that has much to do it waits in vain, and says so.
        in_vain = second and "Wait for its end, or end it, and run this again" in output
        assert process.returncode == 0 or in_vain, failures(output)
    assert bare_host.run("ls /run/linmonitor 2>/dev/null") == ""
    assert "changed=0" in bare_host.deploy()


@pytest.mark.reliability("Grafana's stand-in killed six times in a row", "comes back", times=6)
def test_grafana_that_is_killed_again_and_again_comes_back(bare_host: Host) -> None:
    unit = bare_host.role.unit
    bare_host.deploy()
    for _ in range(6):
        killed = bare_host.process(unit)
        bare_host.run(f"kill -KILL {killed}")
        while bare_host.process(unit) in ("0", killed):
            assert bare_host.run(f"systemctl is-failed {unit}") != "failed"
    assert "changed=0" in bare_host.deploy()


@pytest.mark.reliability(
    "Grafana's stand-in: an uninstall while its owner holds the package",
    "refused before anything stops; taken away when it is released",
)
def test_a_held_package_is_not_half_removed(bare_host: Host) -> None:
    def state() -> list[str]:
        # The lock of the run that was refused stays for a while, for its controller to go on.
        return [line for line in bare_host.state().splitlines() if "/run/linmonitor" not in line]

    bare_host.deploy()
    before = state()
    bare_host.run("apt-mark hold grafana")
    status, output = bare_host.play(playbook="uninstall")
    assert status != 0 and "is held (apt-mark showhold)" in output, failures(output)
    assert state() == before
    bare_host.run("apt-mark unhold grafana")
    status, output = bare_host.play(playbook="uninstall")
    assert status == 0, failures(output)
    assert bare_host.run("dpkg-query --show --showformat '${Status}' grafana") == ""


def test_the_watcher_sees_what_there_is_to_see(bare_host: Host) -> None:
    with watched(bare_host.container, PASSWORD) as seen:
        bare_host.run(f"umask 0; echo {PASSWORD} > /tmp/open")
        bare_host.run(f"systemd-run --unit=teller sh -c 'sleep infinity; : {PASSWORD}'")
    bare_host.run("systemctl stop teller; rm /tmp/open")
    assert any("runs with a secret" in found for found in seen)
    assert {"can be written: /tmp/open", "says a secret: /tmp/open"} <= set(seen)
