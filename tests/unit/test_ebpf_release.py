# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""ebpf_release on a host of the tests' own: every refusal, every fault, every interruption."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest
from ansible_collections.linmonitor.stack.plugins.module_utils import (
    _listening,
    _lock,
    _owned,
    _places,
    _release,
    _release_artifact,
    _release_checks,
    _release_unit,
)
from ansible_collections.linmonitor.stack.plugins.modules import ebpf_release
from fake_systemd import MANIFEST, MARKED, THEIRS, Killed, Machine

OTHER = "127.0.0.1:9436"
UNIT = "etc/systemd/system/ebpf_exporter.service"
SOCKET = "etc/systemd/system/ebpf_exporter.socket"


@pytest.fixture
def box(tmp_path, monkeypatch, run) -> Machine:
    return Machine(tmp_path, monkeypatch, run)


def works(answer: dict) -> dict:
    assert not answer.get("failed"), answer["msg"]
    return answer


# --- the usual


def test_first_release_is_unpacked_tried_and_switched_to(box):
    answer = works(box.deploy())
    assert answer["changed"]
    assert box.faults() == []
    assert box.releases.current() == answer["release"] == box.serving.name
    assert box.releases.healthy() == [answer["release"]]
    assert answer["programs"]["biolatency"]["variant"] == "raw_tp"
    assert answer["left_out"] == []
    assert answer["measures"] == {"biolatency": []}


def test_converged_host_is_asked_once_and_not_changed(box, run):
    works(box.deploy())
    before = box.snapshot()
    answer = works(run(ebpf_release, **box.arguments()))
    assert not answer["changed"]
    assert (answer["artifact_wanted"], answer["found"]) == (False, "")
    assert answer["programs"]["biolatency"]["refused"] == {"tp_btf": "not here"}
    assert box.snapshot() == before


def test_without_an_artifact_a_missing_release_is_an_answer(box, run):
    answer = works(run(ebpf_release, **box.arguments()))
    assert answer["artifact_wanted"]
    assert not answer["changed"]
    assert not box.opt.exists()


def test_release_that_is_there_needs_no_artifact(box, run):
    works(box.deploy())
    works(box.deploy(address=OTHER))
    answer = works(run(ebpf_release, **box.arguments()))
    assert answer["changed"]
    assert not answer["artifact_wanted"]
    assert box.releases.current() == answer["release"]
    assert box.faults() == []


def test_service_that_was_stopped_runs_again(box, run):
    works(box.deploy())
    box.active = False
    answer = works(run(ebpf_release, **box.arguments()))
    assert answer["found"] == "it does not run"
    assert box.faults() == []


def test_old_releases_go_and_as_many_stay_as_asked_for(box):
    for port in range(5):
        works(box.deploy(address=f"127.0.0.1:{port}", keep_releases=3))
    assert len(box.releases.names()) == 3
    assert box.releases.current() in box.releases.names()


def test_modes_do_not_vary_with_umask_or_artifact(box):
    before = os.umask(0o077)
    try:
        folder = Path(box.releases.path(works(box.deploy())["release"]))
    finally:
        os.umask(before)
    modes = {
        str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode)
        for path in folder.rglob("*")
    }
    assert modes.pop("bin/ebpf_exporter") == 0o755
    assert {mode for name, mode in modes.items() if (folder / name).is_dir()} == {0o755}
    assert {mode for name, mode in modes.items() if (folder / name).is_file()} == {0o644}
    for place in (folder, folder.parent, folder.parent.parent):
        assert stat.S_IMODE(place.stat().st_mode) == 0o755


# --- faults


@pytest.mark.reliability("a release that fails its trial", "never switched to, the old one runs")
def test_release_that_fails_its_trial_is_never_switched_to(box):
    before = works(box.deploy())["release"]
    answer = box.deploy("refused")
    assert answer["failed"]
    assert "failed its trial on box" in answer["msg"]
    assert "the journal of ebpf_exporter-trial.service" in answer["msg"]
    assert box.releases.names() == [before]
    assert box.faults() == []


@pytest.mark.reliability("a release that does not answer", "taken back, the old one runs again")
def test_release_that_runs_badly_is_taken_back(box):
    before = works(box.deploy())["release"]
    answer = box.deploy("sick")
    assert answer["failed"]
    assert f"release {before} runs again" in answer["msg"]
    assert "it does not answer" in answer["msg"]
    assert "the journal of ebpf_exporter.service" in answer["msg"]
    assert box.releases.current() == box.serving.name == before
    assert box.releases.names() == [before]
    assert box.faults() == []


@pytest.mark.reliability("a first release that does not answer", "taken away, nothing is left")
def test_first_release_that_runs_badly_leaves_nothing(box):
    before = box.snapshot()
    answer = box.deploy("sick")
    assert answer["failed"]
    assert "there was none before it" in answer["msg"]
    assert not box.active and not box.enabled
    left = {path: value for path, value in box.snapshot().items() if path not in before}
    assert [path for path in left if "/run/" not in path] == []


@pytest.mark.parametrize("verb", ["restart", "enable"])
def test_systemd_that_refuses_is_a_fault_like_any_other(box, monkeypatch, verb):
    before = works(box.deploy())["release"]
    refused = []

    def refuse_once(*command):
        if command[:2] == ("systemctl", verb) and not refused:
            refused.append(command)
            return 1, "no such luck"
        return box.run(*command)

    monkeypatch.setattr(_release, "run", refuse_once)
    answer = box.deploy(address=OTHER)
    assert "no such luck" in answer["msg"]
    assert box.releases.current() == before
    assert box.faults() == []


@pytest.mark.reliability("a disk that is full while a release is unpacked", "nothing is left")
def test_full_disk_while_unpacking_leaves_nothing(box, monkeypatch):
    before = works(box.deploy())["release"]

    def full(artifact, folder):
        (Path(folder) / "half").write_text("")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_release_artifact, "unpack", full)
    answer = box.deploy(address=OTHER)
    assert "No space left on device" in answer["msg"]
    assert box.releases.names() == [before]
    assert box.faults() == []


def test_both_releases_unwell_is_said(box):
    works(box.deploy())
    (box.serving / "bin/ebpf_exporter").write_text("sick")
    answer = box.deploy("sick")
    assert "is on again and not well either: it does not answer" in answer["msg"]


# --- refusals


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


# What no archive may hold: test_archive.py. The others mean something in a release.
FOREIGN = {
    "link": (entry("bin/link", tarfile.SYMTYPE, "/etc/shadow"), "which is a symbolic link"),
    "chooser": (entry("choose.py"), "choose.py is no part of an artifact"),
    "health check": (entry("health.py"), "health.py is no part of an artifact"),
    "module that root would import": (entry("json.py"), "json.py is no part of an artifact"),
    "compiled module": (entry("__pycache__/health.pyc"), "is no part of an artifact"),
    "settings": (entry("settings.json"), "settings.json is no part of an artifact"),
    "mark": (entry("healthy"), "healthy is no part of an artifact"),
    "unit": (entry("ebpf_exporter.service"), "ebpf_exporter.service is no part of an artifact"),
    "another program": (entry("bin/other"), "bin/other is no part of an artifact"),
    "another's object": (entry("programs/a/b.yaml"), "programs/a/b.yaml is no part of an artifact"),
    "unlisted object": (
        entry("programs/a/raw_tp.bpf.o"),
        "its manifest.json lies about programs/a/raw_tp.bpf.o: it says nothing",
    ),
    "second manifest": (entry("./manifest.json"), "'./manifest.json', which is there twice"),
}


@pytest.mark.reliability(
    "an artifact with something of its own: {id}", "refused by its name, the release before runs"
)
@pytest.mark.parametrize("check", [False, True], ids=["for real", "in check mode"])
@pytest.mark.parametrize(("member", "said"), FOREIGN.values(), ids=list(FOREIGN))
def test_artifact_with_what_does_not_belong_there_is_refused(box, run, member, said, check):
    before = works(box.deploy(address=OTHER))["release"]
    artifact = box.artifact(bad=member)
    if check:
        if "lies about" in said:
            return  # the files are compared where they are unpacked
        with pytest.raises(_release.Fault) as refused:
            _release_artifact.manifest_of(artifact)
        assert said in str(refused.value)
        return
    answer = run(ebpf_release, **box.arguments(), artifact=artifact)
    assert said in answer["msg"]
    assert box.releases.names() == [before]
    assert box.faults() == []


def other_exporter(manifest):
    manifest["files"]["bin/ebpf_exporter"] = "0" * 64


def absent_file(manifest):
    manifest["files"]["programs/a/a.yaml"] = "0" * 64


def no_files(manifest):
    del manifest["files"]


def files_of_words(manifest):
    manifest["files"] = "all"


def absent_variant(manifest):
    manifest["catalogue"]["configs"]["biolatency"]["variants"].append({"name": "kprobe"})


def variant_elsewhere(manifest):
    entry = {"variants": [{"name": "../../../../etc/passwd"}]}
    manifest["catalogue"]["configs"]["../../x"] = entry


def sets_of_words(manifest):
    manifest["catalogue"]["sets"] = ["default"]


def hooks_of_words(manifest):
    manifest["catalogue"]["configs"]["biolatency"]["variants"][0]["hooks"] = ["x"]


def variants_of_numbers(manifest):
    manifest["catalogue"]["configs"]["biolatency"]["variants"][0]["name"] = 5


def catalogue_of_nothing(manifest):
    manifest["catalogue"] = None


LIES = {
    other_exporter: "lies about bin/ebpf_exporter: it says 0000",
    absent_file: "lies about programs/a/a.yaml: it says 0000",
    no_files: "its manifest.json lists no files",
    files_of_words: "its manifest.json lists no files",
    absent_variant: "names programs/biolatency/kprobe.bpf.o, which is not in it",
    variant_elsewhere: "names programs/../../x/../../x.yaml, which is not in it",
    sets_of_words: "the catalogue's sets must each list programs",
    hooks_of_words: "biolatency/tp_btf: a hook has no type or target",
    variants_of_numbers: "biolatency: a variant has no name",
    catalogue_of_nothing: "the catalogue has no configs",
}


@pytest.mark.reliability(
    "an artifact whose manifest lies: {id}", "refused by what is wrong, nothing stays"
)
@pytest.mark.parametrize(("lie", "said"), LIES.items(), ids=[lie.__name__ for lie in LIES])
def test_artifact_whose_manifest_lies_is_refused(box, run, lie, said):
    artifact = box.artifact(change=lie)
    answer = run(ebpf_release, **box.arguments(), artifact=artifact)
    assert said in answer["msg"]
    assert not box.opt.exists()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "gone": Path.unlink,
    "empty": lambda path: os.truncate(path, 0),
    "flipped": flip,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "not for all": lambda path: path.chmod(0o600),
}
PARTS = [
    "bin/ebpf_exporter",
    "manifest.json",
    "programs/biolatency/raw_tp.bpf.o",
    "programs/biolatency/biolatency.yaml",
    ".content.json",
    "settings.json",
    "health.py",
]


@pytest.mark.reliability(
    "`{part}` of a release on its host: {damage}",
    "the next run deploys it afresh, the one after nothing",
)
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_release_is_unpacked_afresh(box, run, part, damage):
    name = works(box.deploy())["release"]
    place = Path(box.releases.path(name), part)
    good = place.read_bytes()
    ours = part in (".content.json", "settings.json", "health.py")
    if ours and (damage == "not for all" or not good):
        return
    DAMAGE[damage](place)
    asked = works(run(ebpf_release, **box.arguments()))
    assert (asked["artifact_wanted"], asked["found"]) == (True, f"{name} is damaged on the host")
    assert works(box.deploy())["changed"]
    assert box.faults() == []
    assert (place.read_bytes(), box.releases.names()) == (good, [name])
    assert not works(run(ebpf_release, **box.arguments()))["changed"]


@pytest.mark.reliability("a rollback to a damaged release", "refused, what runs goes on")
def test_damaged_release_is_not_gone_back_to(box, run):
    old = works(box.deploy())["release"]
    new = works(box.deploy(address=OTHER))["release"]
    flip(Path(box.releases.path(old), "bin/ebpf_exporter"))
    answer = run(ebpf_release, root=str(box.opt), state="previous")
    assert f"{box.releases.path(old)} has not the files that were unpacked" in answer["msg"]
    assert box.releases.current() == new
    assert box.faults() == []


@pytest.mark.reliability("an artifact that is cut short", "refused, nothing is left")
def test_truncated_artifact_is_refused(box, run):
    artifact = Path(box.artifact())
    artifact.write_bytes(artifact.read_bytes()[:200])
    answer = run(ebpf_release, **box.arguments(), artifact=str(artifact))
    assert "The artifact cannot be unpacked" in answer["msg"]
    assert not box.opt.exists()


@pytest.mark.reliability("an artifact that arrives with other bytes", "refused, nothing is left")
def test_artifact_that_arrived_with_other_bytes_is_refused(box):
    answer = box.deploy(artifact_sha256="0" * 64)
    assert "arrived on box with the SHA-256" in answer["msg"]
    assert not box.opt.exists()


def lack_btf(box, monkeypatch):
    (box.root / "sys/kernel/btf/vmlinux").unlink()


def be_another_family(box, monkeypatch):
    (box.root / "etc/os-release").write_text('PRETTY_NAME="Fedora 40"\nID=fedora\n')


def be_too_old(box, monkeypatch):
    about = 'PRETTY_NAME="Debian GNU/Linux 10 (buster)"\nVERSION_ID="10"\nID=debian\n'
    (box.root / "etc/os-release").write_text(about)


def lack_systemd(box, monkeypatch):
    (box.root / "run/systemd/system").rmdir()


def be_another_machine(box, monkeypatch):
    (box.root / "proc/sys/kernel/arch").write_text("aarch64")


def be_nobody(box, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 65534)


def have_no_room(box, monkeypatch):
    monkeypatch.setattr(_release_checks, "NEEDED_BYTES", 1 << 62)


def have_a_bad_place(box, monkeypatch):
    monkeypatch.setattr(_places, "fault_of_tree", lambda path, uids: "lies on a mill")


def have_a_folder_for_a_link(box, monkeypatch):
    (box.opt / "current").mkdir(parents=True)


def lose_the_port(box, monkeypatch):
    monkeypatch.setattr(_listening, "listening_sockets", lambda address: {"1"})
    monkeypatch.setattr(_listening, "programs", lambda sockets: [("nginx", 7, "nginx.service")])


def lose_the_port_to_nobody(box, monkeypatch):
    monkeypatch.setattr(_listening, "listening_sockets", lambda address: {"1"})
    monkeypatch.setattr(_listening, "programs", lambda sockets: [])


def have_their_unit(box, monkeypatch):
    (box.root / UNIT).write_text(THEIRS)


def run_nothing(box, monkeypatch):
    (box.root / "sys/kernel/security/lockdown").write_text("none integrity [confidentiality]")
    config = box.root / "boot/config-6.1.0-32-amd64"
    config.write_text(config.read_text().replace("CONFIG_BPF_SYSCALL=y", ""))
    config.write_text(config.read_text() + "# CONFIG_BPF_SYSCALL is not set\n")


REFUSALS = {
    lack_btf: "CONFIG_DEBUG_INFO_BTF=y",
    be_another_family: "box is Fedora 40 with systemd on x86_64",
    be_too_old: "box is Debian GNU/Linux 10 (buster) with systemd on x86_64",
    lack_systemd: "without systemd",
    be_another_machine: "ebpf_exporter_architecture",
    be_nobody: "it has to be root, and it is nobody",
    have_no_room: "No space left on device for a release: box has",
    have_a_bad_place: "releases lies on a mill",
    have_a_folder_for_a_link: "is there and not ours",
    lose_the_port: "taken by another program: nginx (process 7 of nginx.service)",
    lose_the_port_to_nobody: "taken by another program: one that cannot be seen",
    have_their_unit: "ebpf_exporter_adopt",
    run_nothing: "cannot run biolatency (tp_btf: this kernel lacks CONFIG_BPF_SYSCALL",
}


@pytest.mark.reliability(
    "a deployment to a host that cannot have it: {id}", "refused before anything changes"
)
@pytest.mark.parametrize("check", [False, True], ids=["for real", "in check mode"])
@pytest.mark.parametrize(
    ("prepare", "said"), REFUSALS.items(), ids=[prepare.__name__ for prepare in REFUSALS]
)
def test_refused_before_anything_changes(box, monkeypatch, prepare, said, check):
    prepare(box, monkeypatch)
    before = box.snapshot()
    more = {"artifact": None, "manifest": MANIFEST} if check else {}
    answer = box.deploy(**more, _ansible_check_mode=check)
    assert answer.get("failed"), answer
    assert said in answer["msg"]
    left = {path for path in box.snapshot() if path not in before and "/run/linmonitor" not in path}
    assert left == set()
    assert all(box.snapshot()[path] == value for path, value in before.items())


def test_own_service_may_have_the_port(box, monkeypatch):
    works(box.deploy())
    monkeypatch.setattr(_listening, "listening_sockets", lambda address: {"1"})
    monkeypatch.setattr(_listening, "programs", lambda sockets: [("ebpf", 7, _release.UNIT)])
    works(box.deploy("sound", OTHER))


@pytest.mark.parametrize("theirs", ["cups.socket", ""])
def test_socket_of_systemd_is_ours_or_named(box, monkeypatch, theirs):
    works(box.deploy())
    monkeypatch.setattr(_listening, "listening_sockets", lambda address: {"1"})
    monkeypatch.setattr(_listening, "programs", lambda sockets: [("systemd", 1, "init.scope")])
    box.more_sockets = (
        f"[::]:9436 {theirs} cups.service" if theirs else f"{OTHER} {_release.SOCKET}"
    )
    answer = box.deploy("sound", OTHER)
    if theirs:
        assert "taken by another program: systemd (cups.socket)" in answer["msg"]
    else:
        works(answer)


# --- the listener


def stops_of_the_listener(box, **more) -> int:
    box.commands.clear()
    works(box.deploy(**more))
    return box.commands.count(("systemctl", "stop", _release.SOCKET))


def test_listener_stays_open_unless_it_is_another_one(box):
    works(box.deploy())
    assert stops_of_the_listener(box, exporter="another sound one") == 0
    assert stops_of_the_listener(box, address=OTHER) == 1
    assert box.listening == OTHER


def without_socket(box: Machine) -> str:
    """Have a release and a host of before the exporter had a socket of systemd's."""
    name = works(box.deploy())["release"]
    Path(box.releases.path(name), _release.SOCKET).unlink()
    (box.root / SOCKET).unlink()
    record = json.loads(Path(box.record).read_text())
    del record["files"][str(box.root / SOCKET)], record["units"][_release.SOCKET]
    Path(box.record).write_text(json.dumps(record))
    box.loaded_socket, box.listening = "", ""
    return name


def test_deployment_without_a_socket_moves_to_one_and_back(box, run):
    old = without_socket(box)
    works(box.deploy(address=OTHER))
    assert box.listening == OTHER
    assert str(box.root / SOCKET) in json.loads(Path(box.record).read_text())["files"]
    assert works(run(ebpf_release, root=str(box.opt), state="previous"))["release"] == old
    assert not (box.root / SOCKET).exists()
    assert box.listening == ""
    assert box.faults() == []


def test_release_that_fails_leaves_no_socket_to_one_of_before(box):
    old = without_socket(box)
    assert f"release {old} runs again" in box.deploy("sick", OTHER)["msg"]
    assert not (box.root / SOCKET).exists()
    assert box.faults() == []


def test_their_socket_is_refused_adopted_and_given_back(box, run):
    (box.root / SOCKET).write_text("[Socket]\nListenStream=9435\n")
    assert "has a unit ebpf_exporter.socket that is not ours" in box.deploy()["msg"]
    works(box.deploy(adopt=True))
    assert (box.root / SOCKET).read_text().startswith(MARKED)
    works(run(ebpf_release, root=str(box.opt), state="absent"))
    assert (box.root / SOCKET).read_text() == "[Socket]\nListenStream=9435\n"
    assert not (box.root / UNIT).exists()


# --- what the service wrote


@pytest.mark.reliability("a {there} in the place of the service's choice", "nobody waits for it")
@pytest.mark.parametrize("there", ["pipe", "link", "folder", "words"])
def test_whatever_lies_in_the_place_of_the_choice_nobody_waits_for_it(box, run, there):
    works(box.deploy())
    choice = Path(_release.RUNTIME) / "choice.json"
    choice.unlink()
    if there == "pipe":
        os.mkfifo(choice)
    elif there == "link":
        choice.symlink_to("/dev/zero")
    elif there == "folder":
        choice.mkdir()
    else:
        choice.write_text("[]")
    answer = works(run(ebpf_release, **box.arguments()))
    assert "programs" not in answer


@pytest.mark.parametrize("back", [0, 10**6])
def test_way_back_is_the_release_before_whatever_the_clock_says(box, monkeypatch, back):
    names = []
    written = _release.write

    def write_at_an_earlier_time(path, text, mode=0o644):
        written(path, text, mode)
        moment = 1_700_000_000 - back * len(names)
        os.utime(path, (moment, moment))

    monkeypatch.setattr(_release, "write", write_at_an_earlier_time)
    for port in range(3):
        names.append(works(box.deploy(address=f"127.0.0.1:{port}"))["release"])
    assert box.releases.healthy() == names[::-1]
    assert box.releases.before(names[2]) == names[1]


def test_number_that_came_as_text_is_one(box):
    for port in range(3):
        works(box.deploy(address=f"127.0.0.1:{port}", keep_releases="2"))
    assert len(box.releases.names()) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"release": "../../etc"}, "release: ../../etc is not of the form"),
        ({"keep_releases": 0}, "ebpf_exporter_keep_releases) is 0"),
        ({"units": {}}, "units lacks ebpf_exporter.service"),
        ({"settings": {"configs": "all"}}, "settings: configs must be a list"),
    ],
)
def test_wrong_arguments_are_named(box, change, said):
    assert said in box.deploy(**change)["msg"]


def test_strict_refuses_a_kernel_that_can_run_too_little(box):
    settings = box.arguments()["settings"] | {"configs": ["biolatency", "tcp-syn-recv"]}
    works(box.deploy(settings=settings))
    answer = box.deploy(address=OTHER, settings=settings | {"strict": True})
    assert "cannot run tcp-syn-recv (fentry: " in answer["msg"]
    assert box.faults() == []


# --- interruptions


def points(box: Machine, exporter: str) -> range:
    """Return the points at which a deployment of a second release can be killed."""
    # It looks and does nothing, in a quarter of a second.
    box.patch.setattr(_release_checks, "refuse_kernel", lambda *_: None)
    works(box.deploy())
    box.save()
    box.count_actions()
    box.deploy(exporter, OTHER)
    assert box.actions > 40
    return range(1, box.actions + 1)


def deploy_and_be_killed(box: Machine, exporter: str, point: int) -> dict:
    """Deploy a second release and be killed at a point; return the answer if there was one."""
    box.restore()
    box.countdown = point
    answer: dict = {}
    with contextlib.suppress(Killed):
        answer = box.deploy(exporter, OTHER)
    box.revive()
    return answer


@pytest.mark.reliability(
    "a deployment (release: {exporter}) killed before each of its actions", "whole by itself"
)
@pytest.mark.parametrize("exporter", ["sound", "sick", "refused"])
def test_host_is_whole_after_a_kill_anywhere_without_another_run(box, exporter):
    """The module dies with its connection, or the unit is killed and systemd starts it again."""
    for point in points(box, exporter):
        answer = deploy_and_be_killed(box, exporter, point)
        assert box.faults() == [], f"killed at action {point}"
        if exporter != "sound":
            assert box.serving.name == box.arguments()["release"]
            assert answer.get("failed", True)


@pytest.mark.reliability(
    "the same where nothing starts it again (release: {exporter})", "whole after the next run"
)
@pytest.mark.parametrize("exporter", ["sound", "sick", "refused"])
def test_next_run_makes_the_host_whole_where_nothing_else_does(box, exporter):
    """No unit is started again, as after a power failure: the next run is enough."""
    box.restarts_jobs = False
    for point in points(box, exporter):
        deploy_and_be_killed(box, exporter, point)
        works(box.deploy())
        assert box.faults() == [], f"killed at action {point}"
        assert box.releases.unfinished() == []
        assert box.serving.name == box.arguments()["release"]


def test_result_that_nobody_waited_for_is_told_by_the_next_run(box, monkeypatch, run):
    before = works(box.deploy())["release"]

    def die(pause=0.2):
        raise Killed

    waited = _release_unit.wait
    calls = []

    def die_after_the_start(pause=0.2):
        calls.append(1)
        return waited(pause) if len(calls) == 1 else die()

    monkeypatch.setattr(_release_unit, "wait", die_after_the_start)
    with pytest.raises(Killed):
        box.deploy("sick")
    monkeypatch.setattr(_release_unit, "wait", waited)
    assert box.serving.name == before
    answer = works(run(ebpf_release, **box.arguments()))
    assert "did not run well on box and was taken back" in answer["earlier"]["msg"]
    assert "earlier" not in works(run(ebpf_release, **box.arguments()))


def test_another_run_at_work_is_an_answer_that_changes_nothing(box):
    other = {"id": "laptop/7/1", "owner": "ada on laptop (process 7)"}
    with _lock.Lock("ebpf_exporter", other):
        before = box.snapshot()
        answer = box.deploy()
        assert answer["failed"]
        assert box.snapshot() == before
    assert answer["held_by"]["owner"] == other["owner"]
    works(box.deploy())


# --- check mode


@pytest.mark.parametrize("bare", [True, False])
def test_check_mode_shows_the_change_and_makes_none(box, bare):
    if not bare:
        works(box.deploy(address=OTHER))
    before = box.snapshot()
    answer = works(
        box.deploy(
            artifact=None,
            manifest=MANIFEST,
            _ansible_check_mode=True,
            _ansible_diff=True,
        )
    )
    assert answer["changed"]
    headers = [shown["after_header"].rpartition("/")[2] for shown in answer["diff"]]
    assert headers == [*_release.INSTALLED, "settings.json"]
    for shown in answer["diff"]:
        assert "127.0.0.1:9435" in shown["after"]
        assert (OTHER in shown["before"]) == (not bare)
    assert box.snapshot() == before


@pytest.mark.parametrize("state", ["previous", "absent"])
def test_check_mode_of_the_ways_back_changes_nothing(box, state):
    works(box.deploy())
    works(box.deploy(address=OTHER))
    before = box.snapshot()
    answer = box.run_module(ebpf_release, root=str(box.opt), state=state, _ansible_check_mode=True)
    assert works(answer)["changed"]
    assert box.snapshot() == before


# --- running, previous, absent, trial, adoption


def test_running_tells_what_is_on_whatever_is_wanted(box, run):
    nothing = works(run(ebpf_release, root=str(box.opt), state="running"))
    assert (nothing["release"], nothing["changed"], "programs" in nothing) == ("", False, False)
    name = works(box.deploy())["release"]
    before = box.snapshot()
    answer = works(run(ebpf_release, root=str(box.opt), state="running"))
    assert answer["release"] == name
    assert answer["programs"]["biolatency"]["variant"] == "raw_tp"
    assert answer["measures"] == {"biolatency": []}
    assert not answer["changed"]
    assert box.snapshot() == before


def test_previous_goes_back_and_forth(box, run):
    old = works(box.deploy())["release"]
    new = works(box.deploy(address=OTHER))["release"]
    for expected in (old, new):
        answer = works(run(ebpf_release, root=str(box.opt), state="previous"))
        assert answer["release"] == box.releases.current() == box.serving.name == expected
        assert box.faults() == []


def test_previous_without_an_older_release_says_so(box, run):
    works(box.deploy())
    answer = run(ebpf_release, root=str(box.opt), state="previous", host="box")
    assert "There is no release on box to go back to" in answer["msg"]
    assert box.faults() == []


def test_absent_leaves_the_host_as_it_was(box, run):
    before = box.snapshot()
    works(box.deploy())
    works(box.deploy(address=OTHER))
    for state in _release.STATES:
        Path(state).mkdir(parents=True)
    assert works(run(ebpf_release, root=str(box.opt), state="absent"))["changed"]
    assert not box.active and not box.enabled
    left = {path: value for path, value in box.snapshot().items() if path not in before}
    assert [path for path in left if "/run/" not in path] == []
    assert not works(run(ebpf_release, root=str(box.opt), state="absent"))["changed"]


def test_absent_keeps_what_is_not_ours(box, run):
    works(box.deploy())
    (box.root / UNIT).write_text(THEIRS)
    theirs = box.opt / "releases/their-folder"
    theirs.mkdir()
    answer = works(run(ebpf_release, root=str(box.opt), state="absent"))
    assert answer["kept"][0]["path"] == str(box.root / UNIT)
    assert (box.root / UNIT).read_text() == THEIRS
    assert theirs.is_dir()
    assert box.releases.names() == ["their-folder"]


def test_unit_that_runs_a_release_is_ours_whatever_its_comments_say(box, run):
    works(box.deploy())
    (box.root / UNIT).write_text(box.unit.replace(MARKED, "# tidied up by a person\n"))
    works(box.deploy(address=OTHER))
    (box.root / UNIT).write_text(box.unit.replace(MARKED, ""))
    assert works(run(ebpf_release, root=str(box.opt), state="absent"))["kept"] == []
    assert not box.unit


def adopted(box: Machine) -> None:
    (box.root / UNIT).write_text(THEIRS)
    box.loaded, box.active, box.enabled = THEIRS, True, True


def test_adopted_unit_comes_back_at_uninstall(box, run):
    adopted(box)
    works(box.deploy(adopt=True))
    assert box.unit.startswith(MARKED)
    assert box.faults() == []
    works(box.deploy(address=OTHER))
    works(run(ebpf_release, root=str(box.opt), state="absent"))
    assert box.unit == box.loaded == THEIRS
    assert box.active and box.enabled
    assert not (box.root / (UNIT + _owned.COPY)).exists()


@pytest.mark.parametrize("exporter", ["sick", "refused"])
def test_adopted_unit_comes_back_where_the_first_release_fails(box, exporter):
    adopted(box)
    assert box.deploy(exporter, adopt=True)["failed"]
    assert box.unit == THEIRS
    assert box.active
    adopted(box)
    works(box.deploy(adopt=True))
    assert (box.root / (UNIT + _owned.COPY)).read_text() == THEIRS


def test_copy_of_somebody_elses_unit_is_not_overwritten(box):
    adopted(box)
    (box.root / (UNIT + _owned.COPY)).write_text("an older copy\n")
    answer = box.deploy(adopt=True)
    assert "is in the way of a copy" in answer["msg"]
    assert box.unit == THEIRS


@pytest.mark.parametrize("bare", [True, False])
def test_trial_answers_and_leaves_nothing(box, bare):
    if not bare:
        works(box.deploy())
    before = box.snapshot()
    answer = works(box.deploy(address=OTHER, state="trial"))
    assert not answer["changed"]
    assert answer["programs"]["biolatency"]["variant"] == "raw_tp"
    assert {p: v for p, v in box.snapshot().items() if "/run/" not in p} == {
        p: v for p, v in before.items() if "/run/" not in p
    }
    assert box.faults() == []


def test_trial_of_a_release_that_is_there_leaves_it_there(box):
    works(box.deploy())
    works(box.deploy(state="trial", artifact=None))
    assert box.faults() == []


def test_trial_in_which_nothing_can_run_is_an_answer(box):
    answer = works(box.deploy("nothing", state="trial"))
    assert answer["left_out"] == ["biolatency"]


def test_trial_without_a_verdict_says_what_was_said(box):
    answer = box.deploy("refused", state="trial")
    assert "gave no verdict: the journal of ebpf_exporter-trial.service" in answer["msg"]
    assert not box.opt.exists()


def test_trial_that_is_killed_anywhere_leaves_nothing(box):
    box.count_actions()
    works(box.deploy())
    before = box.snapshot()
    box.revive()
    works(box.deploy(address=OTHER, state="trial"))
    for point in range(1, box.actions + 1):
        box.revive()
        box.countdown = point
        with contextlib.suppress(Killed):
            box.deploy(address=OTHER, state="trial")
        box.revive()
        works(box.deploy())
        assert {p: v for p, v in box.snapshot().items() if "/run/" not in p} == {
            p: v for p, v in before.items() if "/run/" not in p
        }, f"killed at action {point}"


def test_a_link_among_the_folders_is_followed(box):
    (box.root / "disk").mkdir()
    box.opt.symlink_to(box.root / "disk")
    works(box.deploy())
    works(box.deploy(address=OTHER))
    assert box.faults() == []
    assert not works(box.deploy(address=OTHER))["changed"]


def test_settings_are_json_that_chooser_and_health_check_read(box):
    works(box.deploy())
    assert json.loads((box.serving / "settings.json").read_text()) == box.arguments()["settings"]
