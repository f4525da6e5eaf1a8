# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is there and not ours stays; what is recorded goes, and nothing else."""

from __future__ import annotations

import grp
import json
import os
import pwd
import socket
from pathlib import Path

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.linmonitor.stack.plugins.filter.owned import foreign_words
from ansible_collections.linmonitor.stack.plugins.module_utils import (
    _listening,
    _owned,
    _places,
    _record,
    _record_absent,
    _writing,
)
from ansible_collections.linmonitor.stack.plugins.modules import owned_files

OURS = "# Managed by linmonitor.stack\nours\n"
THEIRS = "theirs\n"
UNIT = "linmonitor-test.service"
fault_of_place = _places.fault_of_place
ME = pwd.getpwuid(os.getuid()).pw_name
MY_GROUP = grp.getgrgid(os.getgid()).gr_name


@pytest.fixture
def host(tmp_path, monkeypatch) -> Path:
    """Give a folder that stands for the host's file system."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "units").mkdir()
    monkeypatch.setattr(_owned, "INSTALLED", str(tmp_path / "state/installed"))
    monkeypatch.setattr(_owned, "LEFT", str(tmp_path / "state/left"))
    folders = (str(tmp_path / "units"), str(tmp_path / "package"))
    monkeypatch.setattr(_owned, "UNIT_FOLDERS", folders)
    monkeypatch.setattr(_record, "UNITS", str(tmp_path / "units"))
    monkeypatch.setattr(_record_absent, "LOCAL", ())
    # Tests run below /tmp, which units do not see.
    monkeypatch.setattr(_places, "fault_of_place", lambda path, uids: "")
    return tmp_path


@pytest.fixture
def own(run, host):
    """Call the module for the role `a`; paths are below the host."""

    def call(state="present", **arguments):
        for kind in ("paths", "unmarked", "folders", "trees", "data", "known"):
            if kind in arguments:
                arguments[kind] = [str(host / name) for name in arguments[kind]]
        for file in arguments.get("files", []):
            file |= {"path": str(host / file["path"]), "owner": ME, "group": MY_GROUP}
        secrets = {str(host / name): text for name, text in arguments.pop("secrets", {}).items()}
        arguments |= {"secrets": secrets} if secrets else {}
        return run(owned_files, name="a", state=state, **arguments)

    return call


def listed(host: Path) -> list[str]:
    return sorted(str(path.relative_to(host)) for path in host.rglob("*"))


def test_record_is_written_before_the_files(own, host):
    assert own(paths=["etc/a.conf"])["changed"]
    record = json.loads((host / "state/installed/a.json").read_text())
    assert list(record["files"]) == [str(host / "etc/a.conf")]
    assert not (host / "etc/a.conf").exists()


def test_record_is_written_while_another_role_removes_its_last(own, host, monkeypatch):
    record, really = Path(_owned.INSTALLED) / "one.json", _owned.tempfile.mkstemp
    removed = []

    def overtaken(**where):
        if not removed:
            removed.append(where["dir"])
            Path(where["dir"]).rmdir()
        return really(**where)

    monkeypatch.setattr(_owned.tempfile, "mkstemp", overtaken)
    _owned.save(str(record), {"a": 1})
    assert removed
    assert json.loads(record.read_text()) == {"a": 1}


def test_files_are_recorded_and_written_in_one(own, host):
    file = {"path": "etc/new/a.conf", "content": OURS, "mode": "0640"}
    answer = own(files=[dict(file)])
    path = host / "etc/new/a.conf"
    assert answer["written"] == [str(path)]
    assert str(path) in answer["record"]["files"]
    assert (path.read_text(), path.stat().st_mode & 0o777) == (OURS, 0o640)
    assert path.parent.stat().st_mode & 0o777 == 0o755
    again = own(files=[dict(file)])
    assert (again["changed"], again["written"]) == (False, [])
    path.chmod(0o644)
    assert own(files=[dict(file)])["written"] == [str(path)]
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["a.conf"]


def test_file_of_somebody_else_is_not_written(own, host):
    (host / "etc/a.conf").write_text(THEIRS)
    file = {"path": "etc/a.conf", "content": OURS}
    answer = own(files=[dict(file)])
    assert (answer["written"], len(answer["foreign"])) == ([], 1)
    assert (host / "etc/a.conf").read_text() == THEIRS
    own(files=[dict(file)], adopt=True)
    assert (host / "etc/a.conf").read_text() == OURS
    own("absent")
    assert (host / "etc/a.conf").read_text() == THEIRS


def test_file_of_a_tree_needs_no_marker(own, host):
    own(trees=["etc/own"])
    answer = own(files=[{"path": "etc/own/plain", "content": "plain"}])
    assert answer["foreign"] == []
    assert answer["record"]["files"] == {}
    (host / "etc/own/plain").write_text("changed")
    assert own(files=[{"path": "etc/own/plain", "content": "plain"}])["changed"]
    own("absent")
    assert not (host / "etc/own").exists()


def test_check_mode_says_what_it_would_write(own, host):
    file = {"path": "etc/new/a.conf", "content": OURS}
    answer = own(files=[file], _ansible_check_mode=True, _ansible_diff=True)
    assert answer["changed"]
    assert [(shown["before"], shown["after"]) for shown in answer["diff"]] == [("", OURS)]
    assert listed(host) == ["etc", "units"]


def test_secrets_and_long_files_are_not_shown(own, host, monkeypatch):
    files = [{"path": "etc/secret"}, {"path": "etc/long", "content": "long\n" * 9400}]
    secret = "[smtp]\npassword = 'hunter2'\n"
    known = {"trees": ["etc"], "known": ["etc"], "_ansible_diff": True}
    logged = []
    monkeypatch.setattr(AnsibleModule, "log", lambda _module, text, **_words: logged.append(text))
    answer = own(files=files, secrets={"etc/secret": secret}, **known)
    assert "hunter2" not in json.dumps(answer)
    assert [shown["after"] for shown in answer["diff"]] == ["9400 lines\n"]
    assert (host / "etc/secret").read_text() == secret
    assert "etc/secret" in str(logged)
    assert "hunter2" not in str(logged)


@pytest.mark.parametrize("content", [{}, {"content": "a", "secret": "b"}])
def test_file_without_content_or_with_two_is_refused(own, content):
    secrets = {"etc/a": content.pop("secret")} if content else {}
    answer = own(files=[{"path": "etc/a", **content}], secrets=secrets)
    assert answer["failed"]
    assert "etc/a has no content, or two of them" in answer["msg"]


def test_file_that_cannot_be_written_leaves_no_draft(own, host):
    (host / "etc/own/a").mkdir(parents=True)
    answer = own(
        trees=["etc/own"], known=["etc/own"], files=[{"path": "etc/own/a", "content": "a"}]
    )
    assert answer["failed"]
    assert listed(host / "etc/own") == ["a"]


def test_second_run_changes_nothing(own, host):
    arguments = {"paths": ["etc/a.conf"], "data": ["var/data"], "users": ["linmonitor-nobody"]}
    own(**arguments)
    (host / "etc/a.conf").write_text(OURS)
    (host / "var/data").mkdir(parents=True)
    (host / "var/data/block").write_text("samples")
    assert not own(**arguments)["changed"]


@pytest.mark.parametrize("kind", ["paths", "unmarked"])
def test_what_is_there_and_not_ours_is_foreign(own, host, kind):
    (host / "etc/a.conf").write_text(THEIRS)
    answer = own(**{kind: ["etc/a.conf"]})
    assert [entry["path"] for entry in answer["foreign"]] == [str(host / "etc/a.conf")]
    assert not answer["changed"]
    assert not (host / "state").exists()


def test_marker_makes_a_file_ours(own, host):
    (host / "etc/a.conf").write_text(OURS)
    assert own(paths=["etc/a.conf"])["foreign"] == []


def test_known_file_is_ours(own, host):
    (host / "etc/a.json").write_text("{}")
    assert own(unmarked=["etc/a.json"], known=["etc/a.json"])["foreign"] == []


def test_masked_link_and_folder_are_foreign(own, host):
    (host / "etc/masked").symlink_to("/dev/null")
    (host / "etc/folder").mkdir()
    (host / "etc/elsewhere").write_text(THEIRS)
    (host / "etc/link").symlink_to(host / "etc/elsewhere")
    found = own(paths=["etc/masked", "etc/folder", "etc/link"])["foreign"]
    reasons = {Path(entry["path"]).name: entry["reason"] for entry in found}
    assert "masked" in reasons["masked"]
    assert "folder" in reasons["folder"]
    assert "elsewhere" in reasons["link"]


def test_path_below_a_link_is_the_same_file(own, host):
    (host / "link").symlink_to(host / "etc")
    own(paths=["link/a.conf"])
    (host / "etc/a.conf").write_text(OURS)
    assert not own(paths=["etc/a.conf"])["changed"]
    own("absent")
    assert not (host / "etc/a.conf").exists()
    assert (host / "link").is_symlink()


def test_package_is_named(own):
    (entry,) = own(paths=["/usr/bin/dpkg"])["foreign"]
    assert entry["package"] == "dpkg"


def test_adopted_file_comes_back_as_it_was(own, host):
    path = host / "etc/a.conf"
    path.write_text(THEIRS)
    path.chmod(0o604)
    before = path.stat()
    assert own(paths=["etc/a.conf"], adopt=True)["foreign"] == []
    path.write_text(OURS)
    path.chmod(0o644)
    own("absent")
    assert path.read_text() == THEIRS
    assert (path.stat().st_mode, path.stat().st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert listed(host) == ["etc", "etc/a.conf", "units"]


def test_copy_of_an_adopted_file_is_never_overwritten(own, host):
    (host / "etc/a.conf").write_text(THEIRS)
    (host / "etc/a.conf.before-linmonitor").write_text("an older copy\n")
    (entry,) = own(paths=["etc/a.conf"], adopt=True)["foreign"]
    assert "is taken" in entry["reason"]
    assert (host / "etc/a.conf.before-linmonitor").read_text() == "an older copy\n"


def test_adoption_that_was_cut_off_after_the_copy_goes_on(own, host):
    (host / "etc/a.conf").write_text(THEIRS)
    (host / "etc/a.conf.before-linmonitor").write_text(THEIRS)
    assert own(paths=["etc/a.conf"], adopt=True)["foreign"] == []


def test_removal_that_was_cut_off_keeps_what_was_put_back(own, host):
    (host / "etc/a.json").write_text(THEIRS)
    own(unmarked=["etc/a.json"], adopt=True)
    (host / "etc/a.json.before-linmonitor").rename(host / "etc/a.json")
    own("absent")
    assert (host / "etc/a.json").read_text() == THEIRS


def test_file_that_replaced_ours_is_kept(own, host):
    own(paths=["etc/a.conf"])
    (host / "etc/a.conf").write_text(THEIRS)
    (entry,) = own("absent")["kept"]
    assert entry["path"] == str(host / "etc/a.conf")
    assert (host / "etc/a.conf").read_text() == THEIRS


def test_changed_file_with_the_marker_goes(own, host):
    own(paths=["etc/a.conf"])
    (host / "etc/a.conf").write_text(OURS + "a person's line\n")
    own("absent")
    assert not (host / "etc/a.conf").exists()


def test_folders_go_only_when_they_are_empty_and_made_by_us(own, host):
    (host / "opt").mkdir()
    own(paths=["etc/ours/a.conf", "etc/both/a.conf"], folders=["opt"])
    for name in ("ours", "both"):
        (host / "etc" / name).mkdir()
        (host / "etc" / name / "a.conf").write_text(OURS)
    (host / "etc/both/theirs.conf").write_text(THEIRS)
    own("absent")
    assert listed(host) == ["etc", "etc/both", "etc/both/theirs.conf", "opt", "units"]


def test_folder_of_two_roles_goes_with_the_last(own, run, host):
    own(paths=["etc/shared/a.conf"])
    (host / "etc/shared").mkdir()
    run(owned_files, name="b", paths=[str(host / "etc/shared/b.conf")])
    (host / "etc/shared/b.conf").write_text(OURS)
    own("absent")
    assert (host / "etc/shared").exists()
    run(owned_files, name="b", state="absent")
    assert listed(host) == ["etc", "units"]


def test_tree_is_removed_whole_and_only_if_recorded(own, host):
    own(trees=["opt/1.0"])
    for name in ("1.0", "0.9"):
        (host / "opt" / name / "bin").mkdir(parents=True)
    own("absent")
    assert (host / "opt/0.9/bin").exists()
    assert not (host / "opt/1.0").exists()
    assert own(trees=["opt/0.9"], adopt=True)["foreign"][0]["adoptable"] is False


def test_data_outlasts_the_role_until_it_is_purged(own, host):
    own(paths=["etc/a.conf"], data=["var/data"], users=[ME])
    (host / "var/data").mkdir(parents=True)
    (host / "var/data/block").write_text("samples")
    assert own("absent")["changed"]
    assert (host / "var/data/block").exists()
    assert not (host / "state/installed").exists()
    assert not own("absent")["changed"]
    assert own("absent", purge=True)["changed"]
    assert listed(host) == ["etc", "units"]
    assert not own("absent", purge=True)["changed"]


def test_data_that_was_left_is_ours_again(own, host):
    own(data=["data"])
    (host / "data").mkdir()
    (host / "data/block").write_text("samples")
    own("absent")
    assert own(data=["data"])["foreign"] == []
    assert listed(host / "state/left") == []


def test_others_data_is_never_taken(own, host):
    (host / "data").mkdir()
    (host / "data/block").write_text("400 days")
    (entry,) = own(data=["data"], adopt=True)["foreign"]
    assert "holds block" in entry["reason"]
    assert (host / "data/block").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="gives a folder away")
def test_empty_folder_of_a_disk_stays_when_its_data_is_purged(own, host):
    (host / "disk/lost+found").mkdir(parents=True)
    os.chown(host / "disk", 1, 1)
    own(data=["disk"], users=[ME])
    (host / "disk/block").write_text("samples")
    own("absent", purge=True)
    assert listed(host) == ["disk", "disk/lost+found", "etc", "units"]


@pytest.mark.parametrize("path", ["/", "/srv", "/opt", "/var/lib", "/usr/local/share", "/home/me"])
def test_folders_of_the_system_are_too_wide(path):
    assert _places.too_wide(path)
    assert _places.fault_of_data(path, set())


def test_folder_that_holds_the_records_is_too_wide(host):
    assert _places.too_wide(str(host / "state"))
    assert not _places.too_wide(str(host / "data"))


def test_data_with_files_of_others_is_not_purged(own, host):
    own(data=["data"])
    (host / "data/theirs").mkdir(parents=True)
    answer = own("absent", purge=True)
    assert answer["failed"]
    assert "data/theirs" in answer["msg"]
    assert (host / "state/installed/a.json").exists()


def test_files_of_others_in_the_data_are_found(host):
    (host / "data/theirs").mkdir(parents=True)
    assert _places.strangers(str(host / "data"), {os.getuid()}) == []
    assert _places.strangers(str(host / "data"), {os.getuid() + 1}) == [str(host / "data/theirs")]


def test_unit_of_a_package_and_drop_ins_are_foreign(own, host):
    (host / "package").mkdir()
    (host / "package" / UNIT).write_text(THEIRS)
    (host / f"units/{UNIT}.d").mkdir()
    (host / f"units/{UNIT}.d/limits.conf").write_text(THEIRS)
    found = {entry["path"] for entry in own(units=[UNIT])["foreign"]}
    assert found == {str(host / "package" / UNIT), str(host / f"units/{UNIT}.d/limits.conf")}


def test_drop_in_for_our_unit_is_the_operator_s(own, host):
    own(units=[UNIT])
    (host / "units" / UNIT).write_text(OURS)
    (host / f"units/{UNIT}.d").mkdir()
    (host / f"units/{UNIT}.d/limits.conf").write_text(THEIRS)
    answer = own(units=[UNIT])
    assert (answer["foreign"], answer["changed"]) == ([], False)


def test_user_that_exists_is_not_ours(own):
    record = own(users=["nobody", "linmonitor-nobody"], groups=["nogroup"])["record"]
    assert record["users"] == {"nobody": False, "linmonitor-nobody": True}
    assert record["groups"] == {"nogroup": False}


def test_unit_of_others_that_runs_as_a_user_is_found(host):
    (host / "package").mkdir()
    (host / "package/a.service").write_text("[Service]\nUser=metrics\n")
    (host / "package/b.service").write_text("[Service]\nUser=metrics-too\n#User=metrics\n")
    assert _owned.units_as("metrics") == [str(host / "package/a.service")]


def test_first_note_stays(own):
    own(notes={"package": "12.0"})
    assert own(notes={"package": "13.0"})["record"]["notes"] == {"package": "12.0"}


def test_name_alone_tells_the_record(own):
    assert own() == own() | {"changed": False, "foreign": [], "record": {}}
    own(paths=["etc/a.conf"])
    answer = own()
    assert answer["record"]["files"]
    assert not answer["changed"]


def test_check_mode_writes_nothing(own, host):
    (host / "etc/a.conf").write_text(THEIRS)
    assert own(paths=["etc/a.conf"], adopt=True, _ansible_check_mode=True)["changed"]
    assert listed(host) == ["etc", "etc/a.conf", "units"]
    own(paths=["etc/a.conf"], adopt=True)
    before = listed(host)
    assert own("absent", _ansible_check_mode=True)["changed"]
    assert listed(host) == before


def test_host_that_never_had_us_stays_as_it_is(own, host):
    assert not own("absent", purge=True)["changed"]
    assert listed(host) == ["etc", "units"]


@pytest.mark.parametrize(
    "path", ["/home/me/data", "/root/data", "/tmp/data", "/run/user/1000/data"]
)
def test_folder_that_the_sandbox_hides_is_refused(path):
    assert "sandbox hides" in fault_of_place(path, set())


def test_folder_that_a_boot_empties_is_refused():
    assert "empty after a boot" in fault_of_place("/run/linmonitor/data", set())
    assert "empty after a boot" in fault_of_place("/var/run/data", set())


def test_link_into_a_hidden_folder_is_refused(host):
    (host / "link").symlink_to("/home/me/data")
    assert "does not exist" in fault_of_place(str(host / "link"), set())
    (host / "link/").unlink()
    (host / "link").symlink_to("/tmp")
    assert "sandbox hides" in fault_of_place(str(host / "link/data"), set())


@pytest.mark.parametrize("path", ["/srv/my data", "/srv/100%", '/srv/"data"', "/srv/$data"])
def test_folder_that_a_unit_cannot_name_is_refused(path):
    assert "cannot name" in fault_of_place(path, set())


def test_folders_above_must_let_the_service_through(host, monkeypatch):
    monkeypatch.setattr(_places, "HIDDEN", ())
    (host / "closed").mkdir(mode=0o700)
    assert "cannot be reached" in fault_of_place(str(host / "closed/data"), {1})


def test_file_above_is_named(host, monkeypatch):
    monkeypatch.setattr(_places, "HIDDEN", ())
    (host / "file").write_text("")
    assert "file is no folder" in fault_of_place(str(host / "file/data"), {os.getuid()})


def test_data_and_programs_share_no_folder(own):
    (entry,) = own(trees=["opt/1.0"], data=["opt/1.0/data"])["foreign"]
    assert "would share a folder" in entry["reason"]


@pytest.fixture
def listener():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.mark.parametrize("host_part", ["127.0.0.1", "localhost", "0.0.0.0", ""])
def test_program_that_has_the_port_is_named(own, listener, host_part):
    (entry,) = own(units=[UNIT], listen=[f"{host_part}:{listener}"])["foreign"]
    assert (entry["kind"], entry["adoptable"]) == ("port", False)
    assert f"process {os.getpid()}" in entry["reason"]


def test_other_address_of_the_port_is_free(own, listener):
    assert own(units=[UNIT], listen=[f"127.0.0.2:{listener}"])["foreign"] == []


def test_listener_in_both_families_is_seen():
    with socket.socket(socket.AF_INET6) as server:
        server.bind(("::", 0))
        server.listen()
        port = server.getsockname()[1]
        for address in (f"127.0.0.1:{port}", f"[::1]:{port}", f"[::]:{port}", f":{port}"):
            assert _listening.listening_sockets(address), address


def test_listener_of_the_old_family_in_the_new_table_is_seen():
    with socket.socket(socket.AF_INET6) as server:
        server.bind(("::ffff:127.0.0.1", 0))
        server.listen()
        assert _listening.listening_sockets(f"127.0.0.1:{server.getsockname()[1]}")


def test_unit_of_a_listener_is_read_from_its_control_group(tmp_path):
    (tmp_path / "7/fd").mkdir(parents=True)
    (tmp_path / "7/fd/3").symlink_to("socket:[99]")
    (tmp_path / "7/comm").write_text("prometheus\n")
    (tmp_path / "7/cgroup").write_text(
        "1:name=systemd:/machine.slice/x.scope/system.slice/prometheus.service\n"
    )
    found = _listening.programs({"99"}, str(tmp_path))
    assert found == [("prometheus", 7, "prometheus.service")]


def test_answer_says_what_is_missing_and_where_links_lead(own, host):
    (host / "disk").mkdir()
    (host / "link").symlink_to(host / "disk")
    answer = own(trees=["opt/1.0"], data=["link"])
    assert answer["missing"] == [str(host / "opt"), str(host / "opt/1.0")]
    assert answer["resolved"] == {str(host / "link"): str(host / "disk")}


def test_words_name_what_is_there_and_the_way_out():
    ways = {"file": "a_adopt", "data": "a_data_dir", "port": "a_listen_address", "tree": "a_root"}
    file = {"kind": "file", "path": "/etc/a", "reason": "is there and not ours", "package": "a"}
    port = {"kind": "port", "path": "port :1", "reason": "is taken by b", "package": ""}
    words = foreign_words([file | {"adoptable": True}, port | {"adoptable": False}], ways)
    assert "/etc/a (package a) is there and not ours; Port :1 is taken by b." in words
    assert "Set a_adopt to true" in words
    assert "set a_listen_address" in words
    assert "Move /etc/a away" in foreign_words([file | {"adoptable": False}], ways)


# --- one run at a time

FIRST = {"id": "laptop/7/1", "owner": "ada on laptop (process 7)"}
SECOND = {"id": "desk/8/1", "owner": "bob on desk (process 8)"}


def test_run_keeps_another_one_out_until_it_lets_go(own, host):
    assert own(paths=["etc/a.conf"], lock="take", run=FIRST)["changed"]
    for call in ({"paths": ["etc/b.conf"]}, {"state": "absent"}):
        answer = own(run=SECOND, **call)
        assert answer["failed"]
        assert answer["held_by"]["owner"] == FIRST["owner"]
    assert not own(run=SECOND).get("failed")  # who only asks
    file = {"path": "etc/a.conf", "content": OURS}
    assert own(files=[dict(file)], run=FIRST)["written"]
    assert own(paths=["etc/b.conf"], run=SECOND)["failed"]
    own(lock="release", run=FIRST)
    assert own(paths=["etc/b.conf"], run=SECOND)["changed"]


def test_run_that_is_refused_keeps_nobody_out(own, host):
    (host / "etc/a.conf").write_text(THEIRS)
    assert own(paths=["etc/a.conf"], lock="take", run=FIRST)["foreign"]
    assert own(paths=["etc/b.conf"], run=SECOND)["changed"]


def test_check_mode_takes_no_lock_and_asks_for_none(own, host):
    own(paths=["etc/a.conf"], lock="take", run=FIRST, _ansible_check_mode=True)
    assert own(paths=["etc/a.conf"], lock="take", run=SECOND)["changed"]
    assert own(paths=["etc/b.conf"], run=FIRST, _ansible_check_mode=True)["changed"]


def test_full_disk_is_told_with_the_file_that_had_no_room():
    full = pytest.raises(OSError, match="No space left on device: '/srv/x'")
    with full, _writing.naming("/srv/x"), Path("/dev/full").open("w") as stream:
        stream.write("x")
