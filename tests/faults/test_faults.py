# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""After each fault the old release serves, or the next run makes the host whole."""

from __future__ import annotations

import functools
import http.server
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import CURRENT, Box, handed_in
from tests.lab.deployed import failures
from tests.lab.hosts import CHECKOUT
from tests.lab.prometheus import sha256


def replace(path: Path, old: bytes, new: bytes) -> None:
    """Replace bytes of a file by as many others, at least once."""
    content = path.read_bytes()
    assert old in content
    assert len(old) == len(new) or path.suffix == ".py"
    path.write_bytes(content.replace(old, new))


def write_script(path: Path, text: str) -> None:
    """Put a shell script in a program's place."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def truncate_exporter(folder: Path) -> None:
    os.truncate(folder / "bin/ebpf_exporter", 1_000_000)


def pass_the_trial_and_never_start(folder: Path) -> None:
    script = 'case "$*" in *--config.check*) exit 0;; esac; echo "broken on purpose"; exit 1'
    write_script(folder / "bin/ebpf_exporter", script)


def attach_nothing(folder: Path) -> None:
    """Aim the raw tracepoints at names that no kernel has."""
    programs = folder / "programs/biolatency"
    shutil.copyfile(programs / "raw_tp.bpf.o", programs / "tp_btf.bpf.o")
    replace(programs / "tp_btf.bpf.o", b"raw_tp/block_rq_", b"raw_tp/blokk_rq_")


def answer_elsewhere(folder: Path) -> None:
    # The default of --web.telemetry-path, which Go keeps behind this text.
    replace(folder / "bin/ebpf_exporter", b"Usage:\n/metrics", b"Usage:\n/metricz")


BAD_RELEASES = {
    truncate_exporter: "failed its trial",
    pass_the_trial_and_never_start: "broken on purpose",
    attach_nothing: "is not attached",
    answer_elsewhere: "configs [] run",
}


@pytest.fixture
def overlooking(box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deploy from a checkout whose releases overlook, at their trial, what does not attach."""
    checkout = tmp_path / "checkout"
    left_out = shutil.ignore_patterns(".venv", ".git", ".lab", ".ansible", ".*_cache")
    shutil.copytree(CHECKOUT, checkout, symlinks=True, ignore=left_out)
    replace(checkout / "files/release/choose.py", b'"--config.strict",', b"")
    monkeypatch.setattr(box, "checkout", checkout)


@pytest.mark.reliability("a bad release: {id}", "the old one runs, nothing of it stays")
@pytest.mark.usefixtures("overlooking")
@pytest.mark.parametrize(
    ("change", "said"), BAD_RELEASES.items(), ids=[change.__name__ for change in BAD_RELEASES]
)
def test_bad_release_leaves_the_old_one_running(
    box: Box, fabricate: Callable, change: Callable, said: str
) -> None:
    before = box.current()
    bad = fabricate(change)
    status, output = box.play(handed_in(bad))
    assert status != 0
    assert said in output, failures(output)
    assert box.current() == before
    assert box.faults() == ""
    assert sha256(bad)[:16] not in box.run("ls /opt/linmonitor/releases")


@pytest.mark.reliability("a first release that never starts", "taken away")
def test_first_release_that_is_bad_leaves_nothing_running(
    bare_box: Box, fabricate: Callable
) -> None:
    status, output = bare_box.play(playbook="uninstall")
    assert status == 0, failures(output)
    bad = fabricate(pass_the_trial_and_never_start)
    status, output = bare_box.play(handed_in(bad))
    assert status != 0
    assert "there was none before it" in output, failures(output)
    assert bare_box.current() == ""
    assert bare_box.run("systemctl show --value -p LoadState ebpf_exporter") == "not-found"


# What a converged host may cost over ssh, 0.2 s each, the question for its Python included.
EXECUTIONS = 3
# Steps of the unit that deploys, as its journal has them; the first is the play's task before it.
KILL_AT = [
    "Send the artifact",
    "put the release in place",
    "try the programs",
    "point the link to",
    "restart the exporter",
]
MOMENTS = 10
# Until the last of them, on a machine that does much else.
STEP_SECONDS = 300


def reach(box: Box, process: subprocess.Popen, step: str, since: str) -> None:
    """Wait until a deployment is at a step."""
    if step == KILL_AT[0]:
        assert any(step in line for line in process.stdout), f"the play never came to {step}"
        return
    # One execution that follows: on a busy machine each of many may take as long as what is left.
    follow = f"journalctl --follow --unit=linmonitor-release --output=cat --since='{since}'"
    with box.running(f"timeout {STEP_SECONDS} {follow}") as journal:
        if not any(step in line for line in journal):
            said = failures(process.communicate()[0])
            pytest.fail(f"the deployment never came to {step}: {said}")


@pytest.mark.reliability(
    "a play killed at: {step}", "the exporter serves, the next play makes it whole"
)
@pytest.mark.parametrize("step", KILL_AT)
def test_play_killed_midway_is_made_whole_by_the_next(box: Box, step: str) -> None:
    settings: dict[str, Any] = {
        "ebpf_exporter_allowed_sources": [f"192.0.2.{KILL_AT.index(step) + 1}"]
    }
    before = box.current()
    now = box.run("date '+%F %T'")
    process = box.start(settings)
    reach(box, process, step, now)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert box.serves()
    assert box.deploy(**settings) != before
    assert "draft" not in box.current()


@pytest.fixture(scope="module")
def deploy_seconds(bare_box: Box) -> float:
    """Measure a deployment."""
    bare_box.deploy()
    started = time.monotonic()
    bare_box.deploy(ebpf_exporter_allowed_sources=["192.0.2.100"])
    return time.monotonic() - started


@pytest.mark.reliability("a connection cut in tenth {moment} of a deployment", "whole by itself")
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_host_is_whole_by_itself_after_its_connection_was_cut(
    box: Box, deploy_seconds: float, moment: int
) -> None:
    # At random, but somewhere in each tenth of the deployment.
    cut = deploy_seconds * (moment + random.random()) / MOMENTS
    before = box.current()
    process = box.start({"ebpf_exporter_allowed_sources": [f"192.0.2.{101 + moment}"]})
    time.sleep(cut)
    os.killpg(process.pid, signal.SIGKILL)
    box.cut_connections()
    process.communicate()
    box.settle()
    assert box.faults() == "", f"cut after {cut:.1f} of {deploy_seconds:.1f} s"
    assert box.serves()
    assert box.run("systemctl --failed --plain --no-legend") == ""
    assert "draft" not in box.current()
    assert box.run(f"grep -c 192.0.2.{101 + moment} {CURRENT}/settings.json") == (
        "0" if box.current() == before else "1"
    )


@pytest.mark.reliability("the release that is on, removed", "comes back with the next play")
def test_removed_release_comes_back(box: Box) -> None:
    before = box.deploy()
    box.run(f"rm -r {before}")
    assert box.deploy() == before


@pytest.mark.reliability(
    "on a host, {id}", "deployed afresh by the next play, the one after: nothing"
)
@pytest.mark.parametrize(
    "damage",
    [
        "truncate --size=1000000 {exporter}",
        "printf X | dd of={exporter} bs=1 seek=5000000 conv=notrunc",
        "rm {release}/programs/biolatency/raw_tp.bpf.o",
    ],
    ids=["a truncated exporter", "an exporter with one byte changed", "a missing program"],
)
def test_damage_on_the_host_is_repaired(box: Box, damage: str) -> None:
    before = box.deploy()
    # A copy, because nobody may write to a program that runs.
    exporter = f"{before}/bin/ebpf_exporter"
    box.run(f"cp -p {exporter} {exporter}.copy && mv {exporter}.copy {exporter}")
    box.run(damage.format(exporter=exporter, release=before))
    assert box.deploy() == before
    status, output = box.play()
    assert status == 0
    assert "changed=0" in output, failures(output)


@pytest.mark.reliability("a full disk", "the old release runs, nothing is left")
def test_full_disk_leaves_the_old_release_running(box: Box) -> None:
    before = box.current()
    releases = "/opt/linmonitor/releases"
    box.run(f"mount -t tmpfs -o size=8M full {releases}")
    status, output = box.play()
    left = box.run(f"ls {releases}")
    box.run(f"umount {releases}")
    assert status != 0
    assert "No space left on device" in output
    assert left == ""
    assert box.current() == before
    assert box.faults() == ""


@pytest.mark.reliability(
    "an artifact cut short in the cache", "not sent; the message says how to build it again"
)
def test_altered_cache_is_not_sent(box: Box, tmp_path: Path) -> None:
    before = box.current()
    entry = tmp_path / "artifacts" / box.artifact.parent.name
    shutil.copytree(box.artifact.parent, entry)
    os.truncate(entry / box.artifact.name, 1_000_000)
    nothing = {"ebpf_exporter_artifact": "", "ebpf_exporter_artifact_sha256": ""}
    status, output = box.play(nothing | {"linmonitor_cache": str(tmp_path)})
    assert status != 0
    assert str(entry / box.artifact.name) in output
    assert "truncated or altered" in output
    assert "tasks_from: build" in output
    assert box.current() == before
    assert box.faults() == ""


@pytest.mark.reliability("a server that answers with another artifact", "refused")
def test_download_that_was_altered_is_refused(
    box: Box, fabricate: Callable, tmp_path: Path
) -> None:
    before = box.current()
    altered = fabricate(truncate_exporter)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=altered.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        status, output = box.play(
            {
                "ebpf_exporter_artifact": f"http://127.0.0.1:{server.server_port}/{altered.name}",
                "linmonitor_cache": str(tmp_path),
                # Other settings: a release that the host has already would need no download.
                "ebpf_exporter_allowed_sources": ["192.0.2.77"],
            }
        )
        server.shutdown()
    assert status != 0
    assert "checksum" in output
    assert box.current() == before


@pytest.mark.reliability("two plays at once", "whole")
def test_two_plays_at_once_end_whole(box: Box) -> None:
    settings: dict[str, Any] = {"ebpf_exporter_allowed_sources": ["192.0.2.99"]}
    both = [box.start(settings) for _ in range(2)]
    for process in both:
        process.communicate()
    assert box.serves()
    box.deploy(**settings)


def test_rollback_goes_back_and_forth_with_unit_and_settings(box: Box) -> None:
    old = box.deploy()
    new = box.deploy(ebpf_exporter_allowed_sources=["192.0.2.50"])
    installed = "cat /etc/systemd/system/ebpf_exporter.service"
    assert "192.0.2.50" in box.run(installed)
    assert new != old
    for release, present in ((old, False), (new, True)):
        status, output = box.play(playbook="rollback")
        assert status == 0, failures(output)
        assert box.current() == release
        assert ("192.0.2.50" in box.run(installed)) == present
        assert box.faults() == ""


def test_rollback_without_an_older_release_says_so(box: Box) -> None:
    box.run(f"ls -d /opt/linmonitor/releases/* | grep -v {box.current()} | xargs rm -rf")
    status, output = box.play(playbook="rollback")
    assert status != 0
    assert "no release on box to go back to" in output
    assert box.faults() == ""


def test_start_after_stop_serves_again(box: Box) -> None:
    assert box.play(playbook="stop")[0] == 0
    assert box.run("systemctl is-active ebpf_exporter") == "inactive"
    assert box.play(playbook="start")[0] == 0
    assert box.faults() == ""


def test_converged_run_is_cheap_and_changes_nothing(box: Box) -> None:
    box.deploy()
    process = box.start(ANSIBLE_VERBOSITY="3")
    output, _ = process.communicate()
    assert "changed=0" in output
    assert output.count("SSH: EXEC") <= EXECUTIONS


# --- the service and its listener

STATE = "/var/lib/private/ebpf_exporter"
RUNTIME = "/run/ebpf_exporter"
DROP_IN = "/run/systemd/system/ebpf_exporter.service.d"
LISTENERS = "ss -Hltn 'sport = :9435'"


def wait_for(box: Box, command: str) -> None:
    """Wait until a command of the host succeeds, for as long as the test may last."""
    box.run(f"until {command}; do sleep 0.2; done")


def active(box: Box) -> str:
    return box.run("systemctl is-active ebpf_exporter")


def test_stop_closes_the_listener(box: Box) -> None:
    assert box.run(LISTENERS) != ""
    box.run("systemctl stop ebpf_exporter")
    wait_for(box, f'[ -z "$({LISTENERS})" ]')
    assert box.run("systemctl is-active ebpf_exporter.socket") == "inactive"
    assert box.play(playbook="start")[0] == 0
    assert box.faults() == ""


@pytest.mark.reliability(
    "the exporter killed six times in a row", "comes back, whoever asks meanwhile waits", times=6
)
def test_exporter_that_is_killed_again_and_again_comes_back(box: Box) -> None:
    kill = "kill -KILL $(systemctl show --value --property=MainPID ebpf_exporter)"
    for _ in range(6):
        wait_for(box, "systemctl --quiet is-active ebpf_exporter")
        box.run(kill)
    # Whoever asks meanwhile waits.
    assert box.run(LISTENERS) != ""
    wait_for(box, "systemctl --quiet is-active ebpf_exporter")
    assert box.serves()
    assert box.faults() == ""


@pytest.mark.reliability("deployments and rollbacks in a row", "no service that fails", times=6)
def test_deploys_and_rollbacks_in_a_row_are_no_service_that_fails(box: Box) -> None:
    for number in range(2):
        box.deploy(ebpf_exporter_allowed_sources=[f"192.0.2.{60 + number}"])
    for _ in range(4):
        status, output = box.play(playbook="rollback")
        assert status == 0, failures(output)
    assert box.faults() == ""


@pytest.mark.reliability("a chooser that breaks off", "the unit fails and is tried again")
def test_chooser_that_breaks_off_fails_the_unit_and_is_tried_again(box: Box) -> None:
    manifest = f"{box.current()}/manifest.json"
    box.run(f"mv {manifest} {manifest}.away; systemctl restart ebpf_exporter")
    result = box.run("systemctl show --value --property=Result ebpf_exporter")
    box.run(f"mv {manifest}.away {manifest}")
    assert result == "exit-code"
    wait_for(box, "systemctl --quiet is-active ebpf_exporter")
    assert box.faults() == ""


@pytest.mark.reliability("a kernel that can run no program", "no failure, nobody listens")
def test_kernel_that_can_run_nothing_is_no_failure_and_closes_the_listener(box: Box) -> None:
    # What the chooser says where nothing can run.
    condition = 'ExecCondition=\\nExecCondition=/bin/sh -c "exit 100"'
    box.run(f"mkdir -p {DROP_IN} && printf '[Service]\\n{condition}\\n' > {DROP_IN}/nothing.conf")
    box.run("systemctl daemon-reload; systemctl restart ebpf_exporter")
    state, listeners = active(box), box.run(LISTENERS)
    box.run(f"rm -r {DROP_IN}; systemctl daemon-reload; systemctl start ebpf_exporter")
    assert (state, listeners) == ("inactive", "")
    assert box.faults() == ""


@pytest.mark.reliability("trials that hang", "do not outlast the start")
def test_trials_that_hang_do_not_outlast_the_start(box: Box) -> None:
    # Two variants, each longer than all that systemd waits for without being asked.
    chooser, program = f"{box.current()}/choose.py", f"{box.current()}/bin/ebpf_exporter"
    box.run(f"cp -p {chooser} {chooser}.away; mv {program} {program}.away")
    box.run(
        f"sed -i 's/^TRIAL_SECONDS = .*/TRIAL_SECONDS = 6/' {chooser}; rm {STATE}/verdicts.json"
    )
    box.run(f"printf '#!/bin/sh\nexec sleep 60\n' > {program}; chmod 755 {program}")
    box.run(f"mkdir -p {DROP_IN}; printf '[Service]\nTimeoutStartSec=5\n' > {DROP_IN}/short.conf")
    box.run("systemctl daemon-reload; systemctl restart ebpf_exporter")
    result = box.run("systemctl show --value --property=Result ebpf_exporter")
    said = box.run("journalctl --unit=ebpf_exporter --output=cat --lines=30")
    box.run(f"rm -r {DROP_IN}; mv {chooser}.away {chooser}; mv {program}.away {program}")
    box.run("systemctl daemon-reload; systemctl restart ebpf_exporter")
    assert result == "exec-condition", said
    assert box.faults() == ""


@pytest.mark.reliability("a full state folder", "programs are chosen all the same")
def test_full_state_folder_keeps_nobody_from_choosing(box: Box) -> None:
    box.run("systemctl stop ebpf_exporter")
    box.run(
        f"mount -t tmpfs -o size=4k,mode=0777 full {STATE}; head -c 4096 /dev/zero > {STATE}/full"
    )
    box.run("systemctl start ebpf_exporter")
    said = box.run("journalctl --unit=ebpf_exporter --output=cat --lines=30 | grep remembered")
    faults = box.faults()
    box.run(f"systemctl stop ebpf_exporter; umount {STATE}; systemctl start ebpf_exporter")
    assert "No space left on device" in said
    assert faults == ""


@pytest.mark.reliability("a pipe in the place of the service's choice", "nobody waits for it")
def test_pipe_in_the_place_of_the_choice_keeps_nobody_waiting(box: Box) -> None:
    box.run(f"mv {RUNTIME}/choice.json {RUNTIME}/away; mkfifo {RUNTIME}/choice.json")
    faults = box.faults()
    box.run(f"mv {RUNTIME}/away {RUNTIME}/choice.json")
    assert "says nothing of what it chose" in faults


@pytest.mark.reliability("a proxy in the host's environment", "not asked for its loopback")
def test_proxy_of_the_host_is_not_asked_for_its_loopback(box: Box) -> None:
    box.run("systemctl set-environment http_proxy=http://192.0.2.1:3128")
    box.run("echo http_proxy=http://192.0.2.1:3128 >> /etc/environment")
    try:
        box.deploy(ebpf_exporter_allowed_sources=["192.0.2.70"])
    finally:
        box.run("systemctl unset-environment http_proxy; sed -i /http_proxy/d /etc/environment")
