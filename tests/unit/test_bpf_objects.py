# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The compiled objects and their YAML describe the same metrics."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys

import pytest
import yaml
from bpf_build import SOURCES, programs
from catalogue import load
from make_manifest import key_size, metrics_of, slots
from object_maps import read_object

CATALOGUE = load([SOURCES])
CONFIGS = sorted(CATALOGUE["configs"])
METRIC_KEYS = {"name", "help", "labels"}
HISTOGRAM_KEYS = METRIC_KEYS | {
    "bucket_type", "bucket_min", "bucket_max", "bucket_keys", "bucket_multiplier"
}  # fmt: skip
DECODERS = {"uint", "static_map", "string"}


def exporter_config(config: str) -> dict:
    text = (SOURCES / config / f"{config}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["metrics"]


def metrics(config: str) -> list[dict]:
    found = exporter_config(config)
    return found.get("counters", []) + found.get("histograms", [])


def objects(config: str, arch: str = "x86_64") -> list[dict]:
    folder = programs(arch) / "programs" / config
    names = [variant["name"] for variant in CATALOGUE["configs"][config]["variants"]]
    return [read_object(folder / f"{name}.bpf.o") for name in names]


def test_default_is_every_program() -> None:
    assert CATALOGUE["sets"] == {"default": CONFIGS}


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
@pytest.mark.parametrize("config", CONFIGS)
def test_maps_fit_the_labels(config: str, arch: str) -> None:
    for found in objects(config, arch):
        maps = {entry["name"]: entry for entry in found["maps"]}
        for metric in metrics(config):
            entry = maps[metric["name"]]
            assert entry["key_size"] == key_size(metric)
            assert entry["value_size"] == 8
            # No LRU; per CPU where all CPUs run it all the time.
            assert entry["type"] in {"hash", "array", "percpu_hash"}


@pytest.mark.parametrize("config", CONFIGS)
def test_histograms_have_room_for_all_their_slots(config: str) -> None:
    text = "".join(
        path.read_text(encoding="utf-8") for path in (SOURCES / config).glob("*.bpf.[ch]")
    )
    numbers = dict(re.findall(r"#define (\w+) (\d+)", text))
    maps = {entry["name"]: entry for entry in objects(config)[0]["maps"]}
    for histogram in exporter_config(config).get("histograms", []):
        assert maps[histogram["name"]]["max_entries"] % (slots(histogram) + 1) == 0
        if config == "biolatency":  # test_bpf_cells asks the program for its bounds
            assert histogram["bucket_type"] == "fixed"
        elif histogram["bucket_type"] == "fixed":
            assert slots(histogram) == int(numbers["RATIO_SLOTS"])
            keys = {int(n) for n in re.findall(r"\? (\d+)", text)} | {int(numbers["RATIO_ONE"])}
            assert keys == set(histogram["bucket_keys"])
        else:
            assert histogram["bucket_max"] == int(numbers["MAX_SLOT"])
            assert histogram["bucket_min"] == int(numbers.get("MIN_SLOT", 0))


@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_counts_what_it_drops(config: str) -> None:
    name = config.replace("-", "_") + "_dropped_total"
    (counter,) = (metric for metric in metrics(config) if metric["name"] == name)
    assert counter["labels"] == []


@pytest.mark.parametrize("config", CONFIGS)
def test_the_exporter_knows_every_key(config: str) -> None:
    # It passes unknown keys over in silence.
    found = exporter_config(config)
    assert set(found) <= {"counters", "histograms"}
    assert all(set(metric) <= METRIC_KEYS for metric in found.get("counters", []))
    assert all(set(metric) <= HISTOGRAM_KEYS for metric in found.get("histograms", []))
    for metric in metrics(config):
        for label in metric["labels"]:
            assert set(label) <= {"name", "size", "padding", "decoders"}
            assert {decoder["name"] for decoder in label["decoders"]} <= DECODERS
        if metric in found.get("histograms", []):
            assert metric["labels"][-1]["name"] == "bucket"


def test_no_metric_has_two_homes() -> None:
    names = [metric["name"] for config in CONFIGS for metric in metrics(config)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("config", CONFIGS)
def test_variants_hook_what_their_names_say(config: str) -> None:
    kinds = {
        "tp_btf": {"tp_btf"},
        "raw_tp": {"raw_tp"},
        "fentry": {"fentry", "fexit", "tp_btf"},
        "kprobe": {"kprobe", "kretprobe", "raw_tp"},
    }
    variants = CATALOGUE["configs"][config]["variants"]
    for variant, found in zip(variants, objects(config), strict=True):
        assert {hook["type"] for hook in found["hooks"]} <= kinds[variant["name"]]
    targets = [sorted({hook["target"] for hook in found["hooks"]}) for found in objects(config)]
    assert all(found == targets[0] for found in targets)


def test_labels_that_do_not_fit_stop_the_build() -> None:
    changed = {"metrics": copy.deepcopy(exporter_config("tcp-rtt"))}
    changed["metrics"]["histograms"][0]["labels"][0]["size"] = 2
    with pytest.raises(ValueError, match=r"labels of tcp_rtt_seconds do not fit"):
        metrics_of("tcp-rtt", changed, objects("tcp-rtt"), {})


def test_variants_that_differ_stop_the_build() -> None:
    found = copy.deepcopy(objects("tcp-rtt"))
    found[1]["maps"][-1]["max_entries"] += 1
    with pytest.raises(ValueError, match=r"do not share one map"):
        metrics_of("tcp-rtt", {"metrics": exporter_config("tcp-rtt")}, found, {})


def test_metric_that_the_yaml_lacks_stops_the_build() -> None:
    with pytest.raises(ValueError, match=r"its program.yml names tcp_rtt, its YAML does not"):
        metrics_of("tcp-rtt", {"metrics": exporter_config("tcp-rtt")}, [], {"tcp_rtt": {}})


@pytest.mark.parametrize("config", CONFIGS)
def test_help_is_how_the_meaning_begins(config: str) -> None:
    said = CATALOGUE["configs"][config]["metrics"]
    for metric in metrics(config):
        if not metric["name"].endswith("_dropped_total"):
            first = said[metric["name"]]["meaning"].partition(". ")[0]
            assert metric["help"] == first.removesuffix(".")


def test_manifest_is_the_same_every_time(tmp_path) -> None:
    inputs = tmp_path / "inputs.json"
    declared = {"key": "k", "arch": "x86_64", "inputs": {"a": 1}, "observed": {}}
    inputs.write_text(json.dumps(declared), encoding="utf-8")
    root = programs()
    script = SOURCES / "build" / "make_manifest.py"
    command = [sys.executable, script, "--root", root, "--inputs", inputs]
    texts = []
    for _ in range(2):
        subprocess.run(command, check=True)
        texts.append((root / "manifest.json").read_text(encoding="utf-8"))
    (root / "manifest.json").unlink()
    assert texts[0] == texts[1]
    manifest = json.loads(texts[0])
    assert manifest["format"] == 2
    assert {**manifest, **declared} == manifest
    assert "programs/biolatency/raw_tp.bpf.o" in manifest["files"]
