# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each target has one shard, in our sum and in what Prometheus makes of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible_collections.linmonitor.stack.plugins.filter import prometheus

from tests.lab.prometheus import tool

NAMED = {f"10.0.{i % 7}.{i}:9435": f"host{i}" for i in range(1, 101)} | {"[fd00::1]:9435": "web"}
NAMELESS = {f"10.1.0.{i}:9435": f"10.1.0.{i}:9435" for i in range(1, 20)}
SHARDS = 3


def asked(folder: Path, shard: int) -> subprocess.Popen:
    """Start Prometheus' own program on a shard; it waits for targets until its time is over."""
    # One that the shard's own host runs, and so has by another address than the others.
    named = NAMED | {f"127.0.0.{shard + 1}:9435": "monitor"}
    targets = [{"targets": [one], "labels": {"instance": named[one]}} for one in named]
    (folder / "targets.json").write_text(json.dumps([*targets, {"targets": [*NAMELESS]}]))
    job = {"job_name": "ebpf_exporter", "file_sd_configs": [{"files": ["targets.json"]}]}
    configuration = {"scrape_configs": prometheus.sharded([job], SHARDS, shard)}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    command = [str(tool("promtool")), "check", "service-discovery", "--timeout=10s"]
    command += [str(folder / "prometheus.yml"), "ebpf_exporter"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kept(process: subprocess.Popen) -> set[str]:
    """Return the instances that it keeps."""
    found = [one for one in json.loads(process.communicate()[0]) if one.get("labels")]
    return {one["labels"]["instance"] for one in found}


def test_shards_are_disjoint_and_complete_and_those_that_were_reckoned(tmp_path):
    folders = [tmp_path / str(shard) for shard in range(SHARDS)]
    for folder in folders:
        folder.mkdir()
    processes = [asked(folder, shard) for shard, folder in enumerate(folders)]
    shards = [kept(process) for process in processes]
    instances = {*NAMED.values(), *NAMELESS.values(), "monitor"}
    assert sum(map(len, shards)) == len(instances)
    assert set.union(*shards) == instances
    for shard, found in enumerate(shards):
        assert {prometheus.shard_of(instance, SHARDS) for instance in found} == {shard}
    # Some luck is in it: no shard is nearly empty, or nearly all.
    assert min(map(len, shards)) > len(instances) / SHARDS / 2


def test_one_server_has_no_shards():
    job = {"job_name": "ebpf_exporter"}
    assert prometheus.sharded([job], 1, 0) == [job]


def test_other_jobs_are_their_owner_s():
    job = {"job_name": "mine"}
    assert prometheus.sharded([job], 3, 1) == [job]


def test_the_operator_s_own_relabelling_comes_first():
    own = {"target_label": "a", "replacement": "b"}
    (job,) = prometheus.sharded([{"job_name": "ebpf_exporter", "relabel_configs": [own]}], 2, 1)
    assert job["relabel_configs"][0] == own
    assert [rule["action"] for rule in job["relabel_configs"][-2:]] == ["hashmod", "keep"]


@pytest.mark.parametrize(
    ("shards", "shard", "said"),
    [
        (3, 2, ""),
        (1, 0, ""),
        (3, 3, "prometheus_shard is 3, and of prometheus_shards: 3 they are 0 to 2"),
        (3, -1, "0 to 2"),
        (1, 1, "0 to 0"),
        (0, 0, "prometheus_shards must be 1 or more, not 0"),
    ],
)
def test_what_cannot_be_is_said(shards, shard, said):
    found = prometheus.shard_faults(shards, shard)
    assert bool(found) is bool(said)
    assert said in "".join(found)
