# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""bpf_program_info: forecast, verdicts of service and trial, and clear errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.linmonitor.stack.plugins.modules import bpf_program_info
from catalogues import CATALOGUE
from hosts import HOSTS, put

ALL = list(CATALOGUE["configs"])


def choice(**configs: tuple[str | None, dict[str, str]]) -> dict:
    """Write what the chooser writes."""
    entries = {
        name.replace("_", "-"): {"variant": variant, "refused": refused}
        for name, (variant, refused) in configs.items()
    }
    return {"release": "r1", "kernel": HOSTS["container"].release, "configs": entries}


CLAMPS_REFUSED = {
    "fentry": 'error loading "/tmp/x.bpf.o" for config "tcp-window-clamps": not permitted',
    "kprobe": "Missed attachments (module:prog): tcp-window-clamps:called",
}


@pytest.fixture
def release(tmp_path) -> Path:
    """Unpack a release with a link to it, as the role does."""
    folder = tmp_path / "opt/releases/r1"
    put(folder, "manifest.json", json.dumps({"format": 2, "catalogue": CATALOGUE}).encode())
    put(folder, "settings.json", json.dumps({"configs": ["tcp-window-clamps"]}).encode())
    put(folder, "ebpf_exporter-trial.service", b"[Service]\n")
    (tmp_path / "opt/current").symlink_to("releases/r1")
    return tmp_path / "opt/current"


def test_a_manifest_of_another_format_is_refused_with_what_to_do(run, release):
    put(release, "manifest.json", json.dumps({"format": 1, "catalogue": CATALOGUE}).encode())
    result = run(bpf_program_info, release=str(release))
    assert result["failed"]
    assert "has format 1, known is 2; build the artifact again" in result["msg"]


def test_forecast_of_the_default_set(run, tmp_path):
    root = HOSTS["debian12"].write(tmp_path)
    result = run(bpf_program_info, root=root, catalogue=CATALOGUE)
    assert {name: one["variant"] for name, one in result["programs"].items()} == {
        "biolatency": "tp_btf",
        "tcp-window-clamps": "fentry",
    }
    assert result["left_out"] == {}
    assert result["capabilities"] == ["CAP_BPF", "CAP_PERFMON"]
    assert result["memlock"] == {"accounted": False, "bytes": 2 * 1024 * (16 + 64)}
    assert result["hooks_known"] is True
    assert result["verdict_source"] is None and result["disagreements"] == []
    assert result["kernel"]["btf"] is True and result["kernel"]["perf_event_paranoid"] == 3
    assert result["changed"] is False


def test_program_left_out_gives_the_reason_of_every_variant(run, tmp_path):
    root = HOSTS["debian12"].write(tmp_path)
    result = run(bpf_program_info, root=root, catalogue=CATALOGUE, configs=["tcp-syn-recv"])
    program = result["programs"]["tcp-syn-recv"]
    assert program["variant"] is None and program["forecast"] is None
    assert "fentry: " in program["reason"] and " | kprobe: " in program["reason"]
    assert result["left_out"] == {"tcp-syn-recv": program["reason"]}
    assert result["capabilities"] == []


def test_one_more_capability_is_asked_for_only_where_used(run, tmp_path):
    root = HOSTS["debian12"].write(tmp_path)
    ceiling = ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN"]
    arguments = {"root": root, "catalogue": CATALOGUE, "capabilities": ceiling}
    assert "CAP_SYS_ADMIN" not in run(bpf_program_info, **arguments)["capabilities"]
    assert run(bpf_program_info, configs=ALL, **arguments)["capabilities"] == ceiling


def test_catalogue_without_hooks_says_so(run, tmp_path):
    variants = [{"name": "raw_tp", "requires": ["CONFIG_BPF_JIT"]}]
    root = HOSTS["debian11"].write(tmp_path)
    catalogue = {"configs": {"mine": {"variants": variants}}}
    result = run(bpf_program_info, root=root, catalogue=catalogue, configs=["mine"])
    assert result["hooks_known"] is False
    assert result["programs"]["mine"]["variant"] == "raw_tp"
    assert result["memlock"] == {"accounted": True, "bytes": None}


def test_release_says_which_programs_are_wanted(run, tmp_path, release):
    root = HOSTS["debian12"].write(tmp_path)
    result = run(bpf_program_info, root=root, release=str(release))
    assert list(result["programs"]) == ["tcp-window-clamps"]


def test_running_service_outweighs_the_forecast(run, tmp_path, release):
    root = HOSTS["container"].write(tmp_path)
    said = choice(tcp_window_clamps=(None, CLAMPS_REFUSED))
    put(tmp_path, "/run/ebpf_exporter/choice.json", json.dumps(said).encode())
    result = run(bpf_program_info, root=root, release=str(release))
    program = result["programs"]["tcp-window-clamps"]
    assert result["verdict_source"] == "service"
    assert program["variant"] is None and program["forecast"] == "fentry"
    assert program["variants"][0]["verdict"] == "refused"
    assert program["reason"].startswith("fentry: not permitted | kprobe: this kernel lacks CONFIG")
    assert result["disagreements"] == ["tcp-window-clamps/fentry"]


@pytest.mark.parametrize("other", [{"release": "r0"}, {"kernel": "6.1.0"}])
def test_choice_of_another_release_or_kernel_does_not_count(run, tmp_path, release, other):
    root = HOSTS["container"].write(tmp_path)
    said = {**choice(tcp_window_clamps=(None, CLAMPS_REFUSED)), **other}
    put(tmp_path, "/run/ebpf_exporter/choice.json", json.dumps(said).encode())
    result = run(bpf_program_info, root=root, release=str(release))
    assert result["verdict_source"] is None
    assert result["programs"]["tcp-window-clamps"]["variant"] == "fentry"


def test_verdicts_of_a_trial_outweigh_the_forecast(run, tmp_path, release):
    root = HOSTS["container"].write(tmp_path / "host")
    said = choice(tcp_window_clamps=("kprobe", {"fentry": "operation not permitted"}))
    result = run(bpf_program_info, root=root, release=str(release), verdicts=said["configs"])
    program = result["programs"]["tcp-window-clamps"]
    assert result["verdict_source"] == "trial"
    assert program["variant"] == "kprobe" and program["reason"] == ""
    assert [one["verdict"] for one in program["variants"]] == ["refused", "runs"]
    assert set(result["disagreements"]) == {"tcp-window-clamps/fentry", "tcp-window-clamps/kprobe"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "one of the following is required: manifest, catalogue, release"),
        ({"manifest": "/nowhere/manifest.json"}, "/nowhere/manifest.json: cannot be read: No such"),
        ({"release": "/nowhere"}, "/nowhere/manifest.json: cannot be read"),
        ({"catalogue": {"configs": {}}}, "catalogue: the catalogue has no configs"),
        ({"catalogue": CATALOGUE, "configs": ["nope"]}, "configs: not in the catalogue: nope"),
        ({"catalogue": CATALOGUE, "configs": ["default", "default"]}, "asked for twice: default"),
        ({"catalogue": CATALOGUE, "capabilities": ["bpf"]}, "'bpf' is not of the form CAP_NAME"),
        ({"catalogue": CATALOGUE, "root": "/nowhere"}, "/nowhere holds no /proc"),
    ],
)
def test_wrong_argument_is_an_error_that_names_it(run, arguments, words):
    result = run(bpf_program_info, **arguments)
    assert result["failed"] and words in result["msg"]


@pytest.mark.parametrize(
    ("content", "words"), [(b"{", "is not JSON"), (b"[]", "is not a JSON object")]
)
def test_broken_manifest_names_the_file(run, tmp_path, content, words):
    file = put(tmp_path, "manifest.json", content)
    result = run(bpf_program_info, manifest=str(file))
    assert result["failed"] and result["msg"].startswith(f"{file}: {words}")
