# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a variable may be: each has a kind, and what gets through means nothing else anywhere."""

from __future__ import annotations

import configparser
import json
import subprocess
import sys
from collections import UserString
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.linmonitor.stack.plugins.action import sound_values
from ansible_collections.linmonitor.stack.plugins.filter import prometheus
from ansible_collections.linmonitor.stack.plugins.module_utils import _values
from hypothesis import example, given, settings
from hypothesis import strategies as st

CHECKOUT = Path(__file__).parents[2]
KINDS = yaml.safe_load((CHECKOUT / "meta/values.yml").read_text())
# The entry points' own arguments, which other roles' tasks set and no inventory does.
INTERNAL = ("toolchain_export_",)
# Judged as a whole by the role that has them, or by Prometheus' own programs.
ELSEWHERE = {
    "alertmanager_config",
    "alertmanager_flags",
    "node_exporter_flags",
    "prometheus_alertmanagers",
    "prometheus_alerts",
    "prometheus_config",
    "prometheus_export_alerts",
    "prometheus_external_labels",
    "prometheus_flags",
    "prometheus_remote_read",
    "prometheus_remote_write",
    "prometheus_scrape_configs",
    "prometheus_shard",
    "prometheus_shards",
    "prometheus_target_labels",
    "prometheus_targets",
    "prometheus_web_config",
    # 0 and less is a list that is read each time.
    "toolchain_apt_cache_valid_time",
}
# Read by playbooks alone, each by one task.
OF_PLAYBOOKS = {
    "linmonitor_bundle",
    "linmonitor_export_dir",
    "linmonitor_foreign_variables",
    "linmonitor_max_fail_percentage",
    "linmonitor_purge",
    "linmonitor_scrape_sources",
    "linmonitor_serial",
    "linmonitor_test_labels",
    "preflight_report",
}
# Variables that end in a line of a unit.
IN_UNITS = ("folder", "address", "capability", "duration", "interval", "network")


def _specs() -> dict[str, dict]:
    shared = yaml.safe_load((CHECKOUT / "meta/variables.yml").read_text())["options"]
    return shared | {
        name: option
        for path in CHECKOUT.glob("roles/*/meta/argument_specs.yml")
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values()
        for name, option in entry["options"].items()
    }


def test_every_variable_whose_type_says_little_has_a_kind():
    """A new variable needs one here, or choices."""
    says_little = {
        name
        for name, option in _specs().items()
        if option["type"] != "bool" and "choices" not in option and not name.startswith(INTERNAL)
    }
    assert says_little - ELSEWHERE - OF_PLAYBOOKS == set(KINDS)


def test_lists_are_lists_and_kinds_exist():
    for name, kind in KINDS.items():
        is_list = _specs()[name]["type"] == "list"
        assert kind.startswith((_values.LIST, _values.TEXT)) == is_list, name
        plain = kind.removeprefix(_values.LIST).removeprefix(_values.TEXT).rstrip("?")
        assert plain in {*_values.KINDS, *_values.DICTS}, name


def _default(name: str):
    """Return a default that is written down, not computed."""
    value = _specs()[name].get("default")
    return None if value is None or "{{" in str(value) else value


@pytest.mark.parametrize("name", [name for name in KINDS if _default(name) is not None])
def test_defaults_are_sound(name):
    assert _values.fault(KINDS[name], _default(name)) == ""


@pytest.mark.parametrize(
    ("kind", "value", "word"),
    [
        ("folder", "/opt", "its own"),
        ("folder", "/opt/", "its own"),
        ("folder", "/", "letters"),
        ("folder", "/srv", "its own"),
        ("folder", "/var/lib", "its own"),
        ("folder", "/usr/local/bin", "its own"),
        ("folder", "/opt/linmonitor/../..", "without . and .."),
        ("folder", "opt/linmonitor", "absolute"),
        ("folder", "/opt/lin monitor", "letters"),
        ("folder", "/opt/%h", "letters"),
        ("folder", "/opt/" + "a" * 256, "255 in a name"),
        ("folder", "/opt" + "/abcdefgh" * 120, "1000 letters"),
        ("folder", "/opt/$HOME", "letters"),
        ("folder", "/opt/x\nExecStartPre=+/bin/sh", "letters"),
        ("list of network", ["10.0.0.1\nExecStartPre=+/bin/sh"], "addresses"),
        ("list of network", "10.0.0.1", "a list"),
        ("address", ":9435\nUser=root", "no port"),
        ("address", "9435", "means something ('9435' has no port. Allowed is"),
        ("address", None, "in quotes where YAML reads it as something else, not null"),
        ("path?", None, 'empty ("") where nothing is meant, not null'),
        ("environment", None, "a dictionary, not null"),
        ("file?", "/tmp", "this is a folder"),
        # As Ansible has them.
        ("word", type("Tagged", (list,), {})("a"), "not a list"),
        ("word", type("Tagged", (dict,), {})(a=1), "not a dictionary"),
        ("list of capability", ["CAP_BPF", "CAP_EVERYTHING"], "CAP_BPF"),
        ("list of word", "biolatency", "a list"),
        ("list of word", ["biolatency\n"], "letters"),
        ("duration", "15days", "15d"),
        ("duration", "", "not empty"),
        ("interval", "0s", "from 1ms on"),
        ("interval", "0d0h", "from 1ms on"),
        ("interval", "15", "1h30m"),
        ("size?", "5", "500GB"),
        ("size?", "5gb", "500GB"),
        ("url?", "metrics.example.com/prom", "https"),
        ("duration", "15d ", "15d"),
        ("instance?", "EU", "a-z"),
        ("instance?", "-eu", "a-z"),
        ("instance?", "eu west", "a-z"),
        ("instance?", "longer-than", "at most 10"),
        ("count", 0, "from 1 on"),
        ("count", "-3", "from 1 on"),
        ("sha256", "0" * 63, "64"),
        ("url", "ftp://x", "https"),
        ("url", "localhost:9090", "https"),
        ("url", "http://x/a b", "blanks"),
        ("url", "https://x/\nA", "blanks"),
        ("source?", "ftp://x", "http"),
        ("source?", "/a\x00b", "printable"),
        ("version", "2.37.8; reboot", "2.37.8"),
        ("file_name?", "../fleet.json", "without its folder"),
        ("secret?", "a\nb", "one line"),
        ("user?", "a:b", "colons"),
        ("image", "debian:bookworm --privileged", "image"),
        ("environment", {"A B": "c"}, "A B"),
        ("environment", {"A": "c\nd"}, "A"),
        ("environment", "A=b", "a dictionary"),
        ("headers", {"X-Key": "geheim\nX-Other: 1"}, "X-Key"),
        ("headers", {"X Key": "a"}, "X Key"),
        ("headers", {"X-Key": ""}, "X-Key"),
        ("headers", {"X-Key": {"\r": ""}}, "X-Key"),
        ("headers", {"X-Key": ["a"]}, "X-Key"),
        ("environment", {"A": {"b": "c"}}, "A"),
        ("environment", {"A": None}, "A"),
        ("headers", "X-Key: a", "a dictionary"),
        ("settings", {"smtp": {"password": "geheim\n[auth]"}}, "smtp.password"),
        ("settings", {"smtp]\n[auth": {}}, "sections"),
        ("settings", {"smtp": "on"}, "smtp"),
        ("settings", {"a": {"b": ["c"]}}, "a.b"),
        ("settings", {"a": {"b": 'x"""y'}}, "a.b"),
    ],
)
def test_refused_with_what_is_allowed(kind, value, word):
    said = _values.fault(kind, value)
    assert word in said
    assert "\n" not in said, "one line, whatever the value was"
    assert "geheim" not in said


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("folder", "/prometheus"),
        ("folder", "/srv/linmonitor"),
        ("folder", "/mnt/disk1/prom@2+x_y.z"),
        ("list of network", ["10.0.0.0/8", "fd00::/8", "monitor.example.com", "localhost", "any"]),
        ("list of network", []),
        ("list or text of capability", "CAP_BPF, CAP_PERFMON"),
        ("list or text of capability", ["CAP_BPF"]),
        ("address", "[::]:9435"),
        ("address", ":9435"),
        ("scrape_address?", "tunnel.example.com"),
        ("scrape_address?", ""),
        ("duration", "1h30m"),
        ("duration", "0s"),
        ("interval", "100ms"),
        ("interval", "10d"),
        ("instance?", ""),
        ("instance?", "eu-west-1"),
        ("count", "5"),
        ("url", "file:/srv/mirror"),
        ("source?", "https://mirror.example.com/a-1.2.tar.gz?x=1&y=2"),
        ("source?", "~/artifacts/ü b.tar.gz"),
        (
            "repository",
            "ssh://git@example.com/x/y.git",
        ),
        ("package_version?", "11.0.0+security~01"),
        ("package_version?", "newest"),
        ("image", "registry.example.com:5000/debian:12@sha256:" + "0" * 64),
        ("secret?", "pä$$ wörd; # %h"),
        ("settings", {"auth.generic_oauth": {"enabled": True, "scopes": "a b; #", "max": 3}}),
        ("environment", {"https_proxy": "http://user:pass@proxy:3128"}),
        # An encrypted value of ansible-core before 2.19 is like this.
        ("environment", {"https_proxy": UserString("http://user:pass@proxy:3128")}),
        ("headers", {"X-Key": UserString("secret")}),
        ("settings", {"smtp": {"password": UserString("secret")}}),
    ],
)
def test_taken(kind, value):
    assert _values.fault(kind, value) == ""


# On the controller; a role only reads there, or makes a folder of its own below.
OF_THE_CONTROLLER = {"grafana_dashboards_dir", "grafana_secrets_dir"}
SHARED = """
/ /bin /boot /dev /etc /home /lib /lib64 /media /mnt /opt /proc /root /run /sbin /srv /sys /tmp /usr
/usr/bin /usr/lib /usr/local /usr/share /var /var/lib /var/log /var/tmp //opt /opt/ /opt//
"""


@pytest.mark.parametrize("path", SHARED.split())
def test_folder_that_programs_share_is_nobodys_own(path):
    assert _values.fault("folder", path)


def test_every_folder_that_a_role_makes_on_a_host_is_one_of_its_own():
    folders = {name for name in KINDS if name.endswith(("_dir", "_root", "_prefix"))}
    assert {name for name in folders if KINDS[name] != "folder"} == OF_THE_CONTROLLER


NASTY = st.text(
    alphabet=st.sampled_from("a1/.-_:[]%$'\"\\ \n\t\r\0{}=;#@+~é\u2028CAP_BPF"), max_size=40
)


@pytest.mark.parametrize("kind", IN_UNITS)
@settings(deadline=None)
@given(value=NASTY)
@example(value="/opt/a%n")
@example(value="a\nb")
def test_what_gets_into_a_unit_is_one_word_there(kind, value):
    """systemd splits at blanks, reads % and $, takes quotes and backslashes, and ends at a line."""
    if value and not _values.fault(kind, value):
        assert not set(value) & set("\n\r\t\0 \"'\\%$;#=")
        assert value.isprintable()


@pytest.mark.parametrize("kind", sorted({*_values.KINDS}))
@settings(deadline=None)
@given(value=st.one_of(NASTY, st.integers(), st.booleans(), st.none(), st.lists(st.text())))
def test_every_kind_answers_whatever_it_is_asked(kind, value):
    said = _values.fault(kind, value)
    assert isinstance(said, str)
    if not said:
        assert str(value).isprintable()
        assert json.loads(json.dumps(str(value))) == yaml.safe_load(yaml.safe_dump(str(value)))


@settings(deadline=None)
@given(value=NASTY)
def test_settings_read_back_as_one_setting(value):
    if not _values.fault("settings", {"a": {"b": value}}):
        read = configparser.RawConfigParser(comment_prefixes=(), delimiters=("=",))
        read.read_string(f"[a]\nb = {value}\n")
        assert dict(read["a"]) == {"b": value.strip()}


NONSENSE = st.one_of(
    NASTY,
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.just("/" + "a" * 3000),
    st.sampled_from(["{{ lookup('pipe', 'id') }}", "../../etc/passwd", "`id`", "$(id)", "é\u202e"]),
    st.lists(NASTY, max_size=3),
    st.dictionaries(NASTY, st.one_of(NASTY, st.dictionaries(NASTY, NASTY, max_size=2)), max_size=2),
)


def texts(value: object) -> list[str]:
    """Return all texts in a value."""
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in texts(part)]
    if isinstance(value, list):
        return [text for part in value for text in texts(part)]
    return [str(value)]


@pytest.mark.reliability(
    "`{name}`: texts, numbers, lists and dictionaries without sense",
    "refused in one line that says what is allowed, or one line without control characters",
    times=50,
)
@pytest.mark.parametrize("name", sorted(KINDS))
@settings(deadline=None, max_examples=50)
@given(value=NONSENSE)
def test_every_variable_refuses_nonsense_or_means_it(name, value):
    kind = KINDS[name]
    said = _values.fault(kind, value)
    if said:
        assert said.isprintable()
        assert len(said) < 1000
        return
    for text in texts(value):
        assert text.isprintable()
        assert yaml.safe_load(yaml.safe_dump(text)) == json.loads(json.dumps(text)) == text


def read_word(text: str) -> str:
    """Read a word of ExecStart= as systemd does (systemd.syntax, systemd.service)."""
    found, quote, position = "", "", 0
    while position < len(text):
        sign = text[position]
        if sign == "\\":
            position += 1
            found += text[position]
        elif sign in "\"'" and quote in ("", sign):
            quote = "" if quote else sign
        else:
            assert quote or sign not in " \t;", "the word ends here"
            found += sign
        position += 1
    assert not quote
    for sign in "%$":
        assert set(found.replace(sign * 2, "")).isdisjoint(sign), "it is replaced by something"
        found = found.replace(sign * 2, sign)
    return found


@pytest.mark.reliability(
    "a flag of Prometheus with quotes, `%`, `$`, blanks and line breaks",
    "refused, or read back from the unit as it was",
    times=500,
)
@settings(deadline=None, max_examples=500)
@given(value=NASTY)
def test_a_word_of_a_command_line_reads_back(value):
    try:
        word = prometheus.systemd_word(f"--flag={value}")
    except AnsibleFilterError:
        assert not value.isprintable()
        return
    assert read_word(word) == f"--flag={value}"


@pytest.mark.reliability(
    "a configuration of Prometheus with texts of every kind",
    "read back from its YAML as it was",
    times=300,
)
@settings(deadline=None, max_examples=300)
@given(
    value=st.dictionaries(
        st.text(min_size=1, max_size=9),
        st.one_of(NASTY, st.booleans(), st.lists(NASTY)),
        max_size=4,
    )
)
@example(value={"a": "yes", "b": "0x1f", "c": "1e3", "d": "{{ x }}", "e": "- a\n- b", "f": "~"})
def test_a_configuration_reads_back(value):
    assert yaml.safe_load(prometheus.to_yaml(value)) == value


def play(
    tmp_path,
    faults: str | None = None,
    role: str = "ebpf_exporter",
    files: bool = True,
    settle: tuple[str, ...] = (),
    **values,
) -> str:
    """Run the action for a role with values; return what was printed."""
    task = {"role": role, "files": files, "settle": list(settle)}
    task |= {"faults": faults} if faults else {}
    (tmp_path / "play.yml").write_text(
        yaml.safe_dump(
            [
                {
                    "hosts": "localhost",
                    "gather_facts": False,
                    "vars": values,
                    "tasks": [
                        {"linmonitor.stack.sound_values": task, "register": "sound"},
                        {"debug": {"msg": "{{ sound.settled | to_json }}"}},
                    ],
                }
            ]
        )
    )
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", tmp_path / "play.yml"],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_the_action_names_variable_host_and_what_is_allowed(tmp_path):
    shown = play(
        tmp_path,
        wide="/opt",
        ebpf_exporter_root="{{ wide }}",
        ebpf_exporter_capabilities=["CAP_ALL"],
        ebpf_exporter_listen_address="127.0.0.1:9435",
        prometheus_root="/",
    )
    assert "Nothing was changed on localhost. " in shown
    assert "ebpf_exporter_root must be a folder of its own" in shown
    assert "ebpf_exporter_capabilities must be a capability, as CAP_BPF, not 'CAP_ALL'" in shown
    assert "listen_address must" not in shown
    assert "prometheus_root" not in shown.split("fatal", 1)[1]


def test_the_action_names_the_variable_that_cannot_be_evaluated(tmp_path):
    shown = play(tmp_path, ebpf_exporter_root="/srv/{{ nowhere }}", ebpf_exporter_artifact=None)
    assert "ebpf_exporter_root cannot be evaluated: " in shown and "nowhere" in shown
    assert 'ebpf_exporter_artifact must be a text, empty ("") where nothing' in shown


def test_the_action_names_the_variable_of_a_file_that_is_not_there(tmp_path):
    (tmp_path / "files").mkdir()
    for name in ("files/beside.yml", "absolute.yml"):
        (tmp_path / name).touch()
    there = ["beside.yml", f"{tmp_path}/absolute.yml"]
    assert "failed=0" in play(tmp_path, role="prometheus", prometheus_rule_files=there)
    shown = play(tmp_path, role="prometheus", prometheus_rule_files=[*there, "rules/lost.yml"])
    lost = "prometheus_rule_files must be a file of the controller, and 'rules/lost.yml' is not"
    assert f"Nothing was changed on localhost. {lost}" in " ".join(shown.split())
    gone = ["rules/lost.yml"]
    shown = play(tmp_path, role="prometheus", files=False, prometheus_rule_files=gone)
    assert "failed=0" in shown


def test_the_action_judges_what_every_role_reads(tmp_path):
    shown = play(tmp_path, linmonitor_lock=None, linmonitor_cache=["a"], toolchain_environment="")
    for name in ("linmonitor_lock", "linmonitor_cache", "toolchain_environment"):
        assert f"{name} must be " in shown


def test_the_action_lets_sound_values_pass(tmp_path):
    assert "failed=0" in play(tmp_path, ebpf_exporter_root="/srv/linmonitor")


FAULTS = ["{{ 'the root is ' ~ ebpf_exporter_root if wrong else '' }}", "{{ '' }}", "and more"]


def test_the_action_refuses_faults_of_sound_values_in_their_own_words(tmp_path):
    shown = play(
        tmp_path, "my_faults", my_faults=FAULTS, wrong=True, ebpf_exporter_root="/srv/{{ 'x' }}"
    )
    assert "msg: the root is /srv/x and more" in shown


@pytest.mark.parametrize("faults", [[], ["{{ '' }}"], "{{ ['', ''] }}"])
def test_the_action_lets_values_without_faults_pass(tmp_path, faults):
    assert "failed=0" in play(tmp_path, "my_faults", my_faults=faults)


def test_the_action_asks_for_faults_of_sound_values_alone(tmp_path):
    shown = play(tmp_path, "my_faults", my_faults=["{{ 1 / 0 }}"], ebpf_exporter_root="/opt")
    assert "ebpf_exporter_root must be a folder of its own" in shown


def test_the_action_evaluates_each_value_once(tmp_path):
    """Variables are made of others, and a template that counts tells how often."""
    count = tmp_path / "count"
    shown = play(
        tmp_path,
        "my_faults",
        ebpf_exporter_git_url=f"{{{{ lookup('pipe', 'echo >> {count}; echo https://x') }}}}",
        ebpf_exporter_root="/srv/{{ ebpf_exporter_git_url | length }}",
        my_faults=["{{ ebpf_exporter_git_url if ebpf_exporter_root != '/srv/9' else '' }}"],
    )
    assert "failed=0" in shown
    assert count.read_text() == "\n"


def test_the_action_settles_each_variable_once(tmp_path):
    """The faults, the variables after it and later tasks read what was found then."""
    count = tmp_path / "count"
    shown = play(
        tmp_path,
        "my_faults",
        settle=("my_number", "my_list", "my_sum"),
        my_number=f"{{{{ lookup('pipe', 'echo >> {count}; wc -l < {count}') | int }}}}",
        my_list="{{ [my_number, ebpf_exporter_root | default('/srv/x')] }}",
        my_sum="{{ {'all': my_list + [my_number]} }}",
        my_faults=["{{ '' if my_number == 1 else 'asked again' }}"],
    )
    settled = {"my_number": 1, "my_list": [1, "/srv/x"], "my_sum": {"all": [1, "/srv/x", 1]}}
    assert json.dumps(settled) in shown.replace("\\", "")
    assert count.read_text() == "\n"


def test_a_fault_is_told_before_what_cannot_be_settled(tmp_path):
    values = {"settle": ("my_first", "my_next"), "my_next": "{{ my_first }}", "my_faults": FAULTS}
    values |= {"my_first": "{{ nowhere.found }}", "ebpf_exporter_root": "/srv/x"}
    shown = play(tmp_path, "my_faults", wrong=True, **values)
    assert "msg: the root is /srv/x and more" in shown and "nowhere" not in shown
    shown = play(tmp_path, "my_faults", **values | {"my_faults": []})
    assert "failed=1" in shown and "'nowhere' is undefined" in shown


def test_the_action_reads_the_kinds_of_this_collection():
    assert sound_values.KINDS == KINDS
