# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a run says what to open, as whom, and what was left out, in few lines."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.linmonitor.stack.plugins.filter import summary as filters

CHECKOUT = Path(__file__).parents[2]
SECRETS = "/nowhere"
ANSWERS = {"__linmonitor_grafana_answer": {"status": 200}}


def runs(**refused: dict[str, str]) -> dict:
    """Return what a target says that runs biolatency and refused other programs."""
    configs: dict[str, dict] = {"biolatency": {"variant": "tp_btf", "refused": {}}}
    configs |= {
        name.replace("_", "-"): {"variant": None, "refused": why} for name, why in refused.items()
    }
    return {"ebpf_exporter_programs": configs}


def lines(hostvars: dict, healthy: list[str] | None = None, check: bool = False, **groups) -> str:
    named = {f"linmonitor_{name}": hosts for name, hosts in groups.items()}
    told = filters.summary(
        list(hostvars),
        hostvars,
        named,
        list(hostvars) if healthy is None else healthy,
        check=check,
        secrets=SECRETS,
    )
    return "\n".join(told)


def test_listeners_are_the_defaults_of_the_roles():
    for name, listener in filters.LISTENERS.items():
        role = name.removesuffix("_listen_address")
        defaults = yaml.safe_load((CHECKOUT / f"roles/{role}/defaults/main.yml").read_text())
        assert defaults[name] == listener


def test_this_machine_needs_no_tunnel(tmp_path):
    kept = tmp_path / "localhost/admin_password"
    kept.parent.mkdir(parents=True)
    kept.write_text("swordfish\n")
    host = {"ansible_connection": "local", "grafana_secrets_dir": str(tmp_path)} | ANSWERS | runs()
    only = ["localhost"]
    told = lines({"localhost": host}, grafana=only, prometheus=only, targets=only)
    assert told.splitlines() == [
        "Grafana     http://127.0.0.1:3000 as admin, whose password is in "
        f"{kept} on this controller",
        "Prometheus  http://127.0.0.1:9090",
        "Exporters   http://127.0.0.1:9435/metrics on localhost",
        "Programs    1 of 1 on localhost",
    ]


def test_loopback_of_another_host_is_reached_through_one_tunnel():
    host = ANSWERS | {
        "ansible_host": "192.0.2.10",
        "ansible_user": "ops",
        "ansible_port": 2222,
        "ansible_ssh_private_key_file": "/keys/a key",
    }
    told = lines({"monitor": host}, grafana=["monitor"], prometheus=["monitor"])
    assert told.splitlines() == [
        "Grafana     http://127.0.0.1:3000 through the tunnel below as admin, whose password is in "
        "/etc/grafana/linmonitor/admin_password on monitor",
        "Prometheus  http://127.0.0.1:9090 through the tunnel below",
        "Tunnel      ssh -N -L 3000:127.0.0.1:3000 -L 9090:127.0.0.1:9090 -p 2222 "
        "-i '/keys/a key' ops@192.0.2.10",
    ]


@pytest.mark.parametrize(
    ("listener", "url"),
    [
        ("0.0.0.0:3001", "https://192.0.2.10:3001"),
        ("[::]:3001", "https://192.0.2.10:3001"),
        (":3001", "https://192.0.2.10:3001"),
        ("[2001:db8::1]:3001", "https://[2001:db8::1]:3001"),
        ("grafana.example.com:443", "https://grafana.example.com:443"),
    ],
)
def test_a_listener_beyond_loopback_is_opened_directly(listener, url):
    host = ANSWERS | {
        "ansible_host": "192.0.2.10",
        "grafana_listen_address": listener,
        "grafana_tls_cert": "/etc/cert",
    }
    told = lines({"monitor": host}, grafana=["monitor"])
    assert told.startswith(f"Grafana     {url} as admin")
    assert "Tunnel" not in told


def test_grafana_behind_a_proxy_is_opened_there_and_a_given_password_is_not_printed():
    host = ANSWERS | {
        "grafana_ini": {
            "server": {"root_url": "https://example.com/g/"},
            "security": {"admin_user": "boss"},
        },
        "grafana_admin_password": "swordfish",
    }
    told = lines({"monitor": host}, grafana=["monitor"])
    assert told == (
        "Grafana     https://example.com/g/ as boss, "
        "with the grafana_admin_password of your inventory"
    )


@pytest.mark.parametrize(
    ("enabled", "why"),
    [
        ("auto", "its repository did not answer, and grafana_enabled is auto"),
        (False, "grafana_enabled is false"),
        (True, "it does not answer: look at systemctl status grafana-server"),
    ],
)
def test_grafana_that_is_not_there_is_named_with_its_reason(enabled, why):
    host = {"grafana_enabled": enabled, "__linmonitor_grafana_answer": {"status": -1}}
    assert lines({"m": host}, grafana=["m"]) == f"Grafana     not on m: {why}"


def test_a_thousand_hosts_are_a_few_lines():
    why = {"fentry": "needs BTF", "kprobe": "needs CAP_SYS_ADMIN"}
    hosts = {f"h{n}": runs(tcp_rtt=why) if n < 12 else runs() for n in range(1000)}
    told = lines(hosts, [host for host in hosts if host != "h999"], targets=list(hosts))
    assert told.splitlines() == [
        "Exporters   http://127.0.0.1:9435/metrics on h0, and 998 more",
        "Programs    1 of 2 on h0, h1, h2, 9 more",
        "Programs    1 of 1 on h12, h13, h14, 984 more",
        "Left out    tcp-rtt on h0, h1, h2, 9 more: fentry needs BTF; kprobe needs CAP_SYS_ADMIN",
        "Failed      h999: their errors are above",
    ]


def test_a_check_says_that_nothing_was_tried():
    told = lines({"h": {}}, check=True, targets=["h"])
    assert "this was a check" in told


def test_a_target_that_cannot_say_what_it_runs_is_named():
    told = lines({"h": {}}, targets=["h"])
    assert "unknown on h" in told


def test_hosts_outside_the_run_are_not_spoken_of():
    told = lines({"a": runs()}, targets=["a", "b"], prometheus=["b"])
    assert "b" not in told.split() and "Prometheus" not in told


def test_somebody_elses_grafana_is_opened_where_it_listens_by_its_own_people():
    found = {"present": True, "listen": "127.0.0.1:8080", "url": "https://127.0.0.1:8080"}
    guest = {"__linmonitor_grafana": found, "__linmonitor_grafana_guest": {"record": {"format": 1}}}
    told = lines({"m": ANSWERS | guest | {"ansible_connection": "local"}}, grafana=["m"])
    assert told == (
        "Grafana     https://127.0.0.1:8080 as its own people; this Grafana was there before"
    )


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"prometheus_external_url": "https://m.example.com/p"}, "https://m.example.com/p"),
        (
            {"prometheus_web_config": {"tls_server_config": {"cert_file": "/a"}}},
            "https://127.0.0.1:9090 through the tunnel below",
        ),
        (
            {"prometheus_web_config": {"basic_auth_users": {"alice": "secret"}}},
            "http://127.0.0.1:9090 through the tunnel below as a user of prometheus_web_config",
        ),
        (
            {"prometheus_flags": {"web.route-prefix": "/p/"}, "prometheus_mode": "agent"},
            "http://127.0.0.1:9090/p through the tunnel below (an agent, which only forwards)",
        ),
    ],
)
def test_prometheus_is_opened_as_it_is_set(settings, line):
    said = lines({"mon": settings}, prometheus=["mon"])
    assert said.splitlines()[0] == f"Prometheus  {line}"
    assert "secret" not in said


def test_alertmanager_is_named_with_who_hears_of_alerts():
    here, there = {"ansible_connection": "local"}, {"ansible_host": "192.0.2.1"}
    told = lines(
        {
            "silent": here,
            "pager": there
            | {
                "alertmanager_listen_address": "192.0.2.1:9093",
                "alertmanager_external_url": "https://metrics.example.com/alerts/",
                "alertmanager_config": {"receivers": [{"name": "team"}]},
            },
            "inner": there | {"alertmanager_flags": {"web.route-prefix": "/a"}},
        },
        alertmanager=["silent", "pager", "inner"],
    )
    assert told.splitlines()[:3] == [
        "Alerts      http://127.0.0.1:9093 (alertmanager_config has no receivers yet)",
        "Alerts      https://metrics.example.com/alerts/",
        "Alerts      http://127.0.0.1:9093/a through the tunnel below (alertmanager_config has no "
        "receivers yet)",
    ]
