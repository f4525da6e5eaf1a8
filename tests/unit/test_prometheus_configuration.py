# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators ask of Prometheus, as the role renders it, judged by the real programs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from role_play import play

from tests.lab.prometheus import tool

HERE = Path(__file__).parent
CASES: dict[str, dict] = yaml.safe_load((HERE / "prometheus_configuration_cases.yml").read_text())
FILES = ("prometheus.yml", "web.yml")
# One evaluation per case: this is what takes its time.
ASKED = """
{'files': __prometheus_secret_files | combine(__prometheus_files), 'flags': __prometheus_arguments}
"""
PASSWORD = "p$ss \"word'"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> Path:
    """Return a folder with a folder per case: files, rules and the command line."""
    top = tmp_path_factory.mktemp("rendered")
    tls = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=monitor"]
    subprocess.run(
        ["openssl", "req", *tls, "-keyout", top / "key.pem", "-out", top / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    tasks = []
    for name, variables in CASES.items():
        given = json.loads(json.dumps(variables).replace("TOP", str(top)))
        given["__prometheus_owned"] = {"resolved": {"/var/lib/linmonitor/prometheus": "/data"}}
        answer = {"content": f"{{{{ {ASKED} | to_json }}}}", "dest": str(top / f"{name}.json")}
        tasks.append({"ansible.builtin.copy": answer, "vars": given})
    export = {"content": "{{ __prometheus_export_files | to_json }}", "dest": f"{top}/export.json"}
    named = {"prometheus_export_dir": str(top / "export"), "prometheus_export_job": "kernels"}
    tasks.append({"ansible.builtin.copy": export, "vars": named})
    play(top, ("prometheus",), tasks)
    for file in json.loads((top / "export.json").read_text()):
        Path(file["path"]).parent.mkdir(parents=True, exist_ok=True)
        Path(file["path"]).write_text(file["content"])
    for name in CASES:
        found = json.loads((top / f"{name}.json").read_text())
        for path, text in found["files"].items():
            (top / name / path).parent.mkdir(parents=True, exist_ok=True)
            (top / name / path).write_text(text)
        (top / name / "flags.json").write_text(json.dumps(found["flags"]))
    return top


def configuration(rendered: Path, case: str) -> dict[str, Any]:
    return yaml.safe_load((rendered / case / "prometheus.yml").read_text())


def web(rendered: Path, case: str) -> dict[str, Any]:
    return yaml.safe_load((rendered / case / "web.yml").read_text())


def job(rendered: Path, case: str, name: str) -> dict[str, Any]:
    found = configuration(rendered, case)["scrape_configs"]
    return next(one for one in found if one["job_name"] == name)


def flags(rendered: Path, case: str) -> list[str]:
    return json.loads((rendered / case / "flags.json").read_text())


@pytest.mark.parametrize("case", CASES)
def test_promtool_and_prometheus_take_it(rendered, case):
    folder = rendered / case
    mode = ["--agent"] if case == "agent" else []
    for words in (["config", *mode, folder / FILES[0]], ["web-config", folder / FILES[1]]):
        done = subprocess.run(
            [tool("promtool"), "check", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    words = [word for word in flags(rendered, case) if not word.startswith("--config.file=")]
    done = subprocess.run(
        [tool("prometheus"), *words, "--config.file=/absent"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "/absent" in done.stderr, done.stderr


@pytest.mark.parametrize("case", CASES)
def test_each_value_has_its_line(rendered, case):
    for path in FILES:
        lines = (rendered / case / path).read_text().splitlines()
        assert not [line for line in lines if line.lstrip(" -")[:1] in ("'", '"')]


def test_without_wishes_it_has_what_is_needed_and_no_more(rendered):
    assert configuration(rendered, "defaults").keys() == {
        "global", "rule_files", "scrape_configs"
    }  # fmt: skip
    assert web(rendered, "defaults") is None
    assert [word.partition("=")[0] for word in flags(rendered, "defaults")] == [
        "--config.file", "--web.config.file", "--web.listen-address", "--storage.tsdb.path",
        "--storage.tsdb.retention.time",
    ]  # fmt: skip


def test_lists_are_added_to_ours(rendered):
    found = configuration(rendered, "everything")
    names = [one["job_name"] for one in found["scrape_configs"]]
    assert names == ["ebpf_exporter", "prometheus", "mine", "of-config"]
    assert [one["url"] for one in found["remote_write"]] == [
        "https://store/api/v1/write", "https://other/write"
    ]  # fmt: skip
    assert found["global"]["external_labels"] == {"replica": 1, "site": "here"}
    assert found["global"]["scrape_interval"] == "15s"
    assert found["global"]["query_log_file"] == "/var/log/queries"


def test_a_job_of_our_name_changes_ours(rendered):
    found = job(rendered, "everything", "ebpf_exporter")
    assert found["sample_limit"] == 100
    assert found["file_sd_configs"] == [{"files": ["targets/ebpf_exporter.json"]}]


def test_a_shard_has_its_part_of_our_targets(rendered):
    *_, hashed, kept = job(rendered, "sharded", "ebpf_exporter")["relabel_configs"]
    assert (hashed["action"], hashed["modulus"]) == ("hashmod", 3)
    assert (kept["action"], kept["regex"]) == ("keep", "1")
    for name in ("mine", "prometheus"):
        assert "relabel_configs" not in job(rendered, "sharded", name)
    assert "relabel_configs" not in job(rendered, "defaults", "ebpf_exporter")


def test_alerts_on_alertmanagers_come_with_them(rendered):
    for case, known in (("everything", True), ("defaults", False)):
        text = (rendered / case / "rules/alerts.yml").read_text()
        assert ("PrometheusNoAlertmanager" in text) is known


def test_its_own_scrape_follows_scheme_user_and_path(rendered):
    own = job(rendered, "protected", "prometheus")
    assert (own["scheme"], own["metrics_path"]) == ("https", "/prom/metrics")
    assert own["basic_auth"] == {"username": "alice", "password": PASSWORD}
    assert web(rendered, "protected").keys() == {"tls_server_config", "http_server_config"}
    assert own["tls_config"] == {"insecure_skip_verify": True}
    assert job(rendered, "stripped", "prometheus")["metrics_path"] == "/metrics"
    assert "basic_auth" not in job(rendered, "defaults", "prometheus")


def test_an_agent_has_no_rules(rendered):
    assert "rule_files" not in configuration(rendered, "agent")
    words = flags(rendered, "agent")
    assert "--storage.agent.path=/data/agent" in words
    assert [word for word in words if word.startswith("--enable-feature")] == [
        "--enable-feature=agent", "--enable-feature=extra-scrape-metrics"
    ]  # fmt: skip


def test_what_another_prometheus_gets_is_valid_and_of_its_job(rendered):
    rules = sorted((rendered / "export/rules").iterdir())
    assert [file.name for file in rules] == ["linmonitor-alerts.yml", "linmonitor-recording.yml"]
    scrape = rendered / "export/linmonitor-scrape.yml"
    for words in (["rules", *rules], ["config", scrape]):
        done = subprocess.run(
            [tool("promtool"), "check", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    text = "".join(file.read_text() for file in rules)
    assert 'job="kernels"' in text
    assert 'job="ebpf_exporter"' not in text
    (found,) = yaml.safe_load(scrape.read_text())["scrape_configs"]
    assert found["job_name"] == "kernels"
    assert found["file_sd_configs"] == [{"files": [f"{rendered}/export/targets/linmonitor.json"]}]
    groups = yaml.safe_load(rules[0].read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    assert {"EbpfExporterDown", "DiskErrors", "TcpHandshakeSlow", "EbpfConfigMissing"} < alerts
    assert not [name for name in alerts if name.startswith(("Prometheus", "Alertm", "Watchdog"))]
