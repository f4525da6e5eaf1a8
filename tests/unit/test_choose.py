# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chooser of a release, with an exporter whose verdicts the test writes down."""

from __future__ import annotations

import importlib.util
import json
import re
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.linmonitor.stack.plugins.module_utils import _program

CHECKOUT = Path(__file__).parents[2]
MAKE_MANIFEST = CHECKOUT / "files/bpf/build/make_manifest.py"
CATALOGUE = {
    "configs": {
        "disk": {"variants": [{"name": "tp_btf"}, {"name": "raw_tp"}]},
        "net": {"variants": [{"name": "fentry"}, {"name": "kprobe"}]},
    }
}
# Prints what the real exporter prints and keeps a line per trial, to count them.
EXPORTER = """#!{python}
import json, os, sys
from pathlib import Path
here = Path(__file__).parent
options = dict(a.lstrip("-").partition("=")[::2] for a in sys.argv[1:])
loaded = sorted(
    p.name[:-6] + "/" + os.readlink(p).split("/")[-1][:-6]
    for p in Path(options["config.dir"]).glob("*.bpf.o")
)
with (here / "trials").open("a") as log:
    print(*loaded, file=log)
refused = json.loads((here / "refused.json").read_text())
for names, said in refused.items():
    if set(names.split(" ")) <= set(loaded):
        print(said)
        sys.exit(1)
"""
MISSED = "Missed attachments (module:prog): net:one, net:two"
NOT_PERMITTED = (
    'Error attaching exporter: error loading bpf object from "/tmp/x/net.bpf.o" '
    'for config "net": failed to load BPF object: operation not permitted'
)
NO_MEMORY = 'error for config "disk": failed to load BPF object: cannot allocate memory'


@pytest.fixture(scope="module")
def choose():
    spec = importlib.util.spec_from_file_location("choose", CHECKOUT / "files/release/choose.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["choose"] = module
    spec.loader.exec_module(module)
    return module


class Host:
    """A release with its folders; `refused` maps loaded variants to what the exporter says."""

    def __init__(self, choose, root: Path) -> None:
        self.choose = choose
        self.release, self.runtime, self.state = root / "r1", root / "run", root / "state"
        for folder in (self.release / "bin", self.runtime, self.state):
            folder.mkdir(parents=True)
        for config, entry in CATALOGUE["configs"].items():
            programs = self.release / "programs" / config
            programs.mkdir(parents=True)
            for name in [f"{config}.yaml", *(f"{v['name']}.bpf.o" for v in entry["variants"])]:
                (programs / name).touch()
        (self.release / "manifest.json").write_text(
            json.dumps({"format": 2, "catalogue": CATALOGUE})
        )
        exporter = self.release / "bin/ebpf_exporter"
        exporter.write_text(EXPORTER.format(python=sys.executable))
        exporter.chmod(0o755)

    def run(self, refused: dict[str, str], *, strict: bool = False) -> int:
        settings = {"configs": ["disk", "net"], "strict": strict}
        (self.release / "settings.json").write_text(json.dumps(settings))
        (self.release / "bin/refused.json").write_text(json.dumps(refused))
        (self.release / "bin/trials").write_text("")
        folders = {"release": self.release, "runtime": self.runtime, "state": self.state}
        return self.choose.main([f"--{name}={path}" for name, path in folders.items()])

    @property
    def configs(self) -> dict:
        return json.loads((self.runtime / "choice.json").read_text())["configs"]

    @property
    def variants(self) -> dict:
        return {config: entry["variant"] for config, entry in self.configs.items()}

    @property
    def remembered(self) -> list[dict]:
        return json.loads((self.state / "verdicts.json").read_text())

    @property
    def trials(self) -> list[str]:
        return (self.release / "bin/trials").read_text().splitlines()


@pytest.fixture
def host(choose, tmp_path):
    return Host(choose, tmp_path)


def test_the_preferred_variants_run_where_all_load(host):
    assert host.run({}) == 0
    assert host.variants == {"disk": "tp_btf", "net": "fentry"}
    assert (host.runtime / "environment").read_text() == "EBPF_EXPORTER_CONFIGS=disk,net\n"
    link = host.runtime / "configs/disk.bpf.o"
    assert link.resolve() == host.release / "programs/disk/tp_btf.bpf.o"


def test_the_next_variant_replaces_a_refused_one(host):
    assert host.run({"net/fentry": NOT_PERMITTED}) == 0
    assert host.variants["net"] == "kprobe"
    reason = host.configs["net"]["refused"]["fentry"]
    assert reason == "failed to load BPF object: operation not permitted"


def test_a_config_without_a_variant_takes_no_other_down(host, capsys):
    refused = {"net/fentry": NOT_PERMITTED, "net/kprobe": MISSED}
    assert host.run(refused) == 0
    assert host.variants == {"disk": "tp_btf", "net": None}
    assert host.configs["net"]["refused"]["kprobe"] == "not attached: one, two"
    assert "net: left out on kernel" in capsys.readouterr().out


def test_strict_fails_where_one_is_left_out(host):
    refused = {"net/fentry": NOT_PERMITTED, "net/kprobe": MISSED}
    assert host.run(refused, strict=True) == host.choose.STRICT


def test_nothing_to_run_is_a_skip_not_a_failure(host):
    everything = [
        f"{c}/{v['name']}" for c, e in CATALOGUE["configs"].items() for v in e["variants"]
    ]
    assert host.run(dict.fromkeys(everything, NOT_PERMITTED)) == host.choose.NOTHING_RUNS


def test_permanent_refusals_are_remembered(host):
    host.run({"net/fentry": NOT_PERMITTED})
    assert host.run({}) == 0
    assert host.variants["net"] == "kprobe"
    assert "net/fentry" not in " ".join(host.trials)


def test_lack_of_memory_is_not_remembered(host):
    host.run({"disk/tp_btf": NO_MEMORY})
    assert host.variants["disk"] == "raw_tp"
    host.run({})
    assert host.variants["disk"] == "tp_btf"


def test_another_kernel_forgets_the_refusals(host, choose, monkeypatch):
    host.run({"net/fentry": NOT_PERMITTED})
    monkeypatch.setattr(choose.Identity, "key", lambda *_: "another kernel")
    host.run({})
    assert host.variants["net"] == "fentry"


def test_a_damaged_memory_is_replaced(host):
    host.run({})
    another_form = json.dumps([{"key": host.remembered[0]["key"], "refusals": 1}])
    for damaged in ('[{"key": ', "[1]", "{}", another_form):
        (host.state / "verdicts.json").write_text(damaged)
        assert host.run({}) == 0
        assert host.remembered[0]["refusals"] == {}


def test_what_does_not_load_beside_the_others_is_left_out(host):
    assert host.run({"disk/tp_btf net/fentry": NOT_PERMITTED}) == 0
    assert host.variants == {"disk": "tp_btf", "net": None}
    assert host.configs["net"]["refused"]["fentry"].startswith("beside the others: ")


def test_what_was_accepted_is_not_tried_again(host):
    host.run({"net/fentry": NOT_PERMITTED})
    before = host.configs
    assert host.run({}) == 0
    assert host.trials == []
    assert host.configs == before


def at(choose, monkeypatch, boot: str, age: float) -> None:
    monkeypatch.setattr(choose, "uptime", lambda: (boot, age))


@pytest.mark.parametrize(
    ("then", "tried"),
    [(("first", 101.0), True), (("first", 5000.0), False), (("second", 101.0), False)],
    ids=["soon", "later", "after a reboot"],
)
def test_what_may_have_ended_the_exporter_is_tried_again(host, choose, monkeypatch, then, tried):
    at(choose, monkeypatch, "first", 100.0)
    host.run({})
    host.run({})
    assert host.trials == []
    at(choose, monkeypatch, *then)
    host.run({})
    assert (host.trials != []) == tried
    host.run({})
    assert host.trials == [] or not tried


def test_verdicts_of_a_few_releases_are_kept(host, choose, monkeypatch):
    for number in range(choose.REMEMBERED + 2):
        monkeypatch.setattr(choose.Identity, "key", lambda *_, number=number: str(number))
        host.run({})
    assert [entry["key"] for entry in host.remembered] == ["5", "4", "3", "2"]
    monkeypatch.setattr(choose.Identity, "key", lambda *_: "3")
    host.run({})
    assert host.trials == []


def test_a_program_that_was_left_out_is_tried_beside_the_accepted(host):
    host.run({"disk/tp_btf": NO_MEMORY, "disk/raw_tp": NO_MEMORY})
    assert host.variants == {"disk": None, "net": "fentry"}
    assert host.run({}) == 0
    assert host.trials == ["disk/tp_btf", "disk/tp_btf net/fentry"]


def test_a_full_disk_keeps_nobody_from_choosing(host, choose, monkeypatch, capsys):
    def full(path, text):
        raise OSError(28, "No space left on device")

    written = Path.write_text
    monkeypatch.setattr(
        Path, "write_text", lambda p, t: full(p, t) if p.parent == host.state else written(p, t)
    )
    assert host.run({}) == 0
    assert "not remembered: [Errno 28]" in capsys.readouterr().out


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_crash_is_no_verdict(choose, monkeypatch, fault):
    def crash():
        raise fault

    monkeypatch.setattr(choose, "main", crash)
    assert choose.status() == choose.FAILED_TO_CHOOSE


def test_words_that_it_does_not_know_are_no_verdict(choose, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["choose.py", "--nonsense"])
    assert choose.status() == choose.FAILED_TO_CHOOSE


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Give a folder of few letters: a socket's address has at most 107 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_systemd_is_asked_for_time_before_each_trial(host, choose, monkeypatch, short_path):
    address = str(short_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        host.run({"net/fentry": NOT_PERMITTED})
        manager.setblocking(False)
        asked = [manager.recv(100) for _ in host.trials]
        with pytest.raises(BlockingIOError):
            manager.recv(100)
    seconds = choose.TRIAL_SECONDS + choose.SPARE_SECONDS
    assert set(asked) == {f"EXTEND_TIMEOUT_USEC={seconds}000000".encode()}


def test_an_artifact_of_another_format_fails_the_unit_and_says_what_to_do(host, capsys):
    manifest = {"format": host.choose.FORMAT + 1, "catalogue": CATALOGUE}
    (host.release / "manifest.json").write_text(json.dumps(manifest))
    assert host.run({}) == 255
    assert "build the artifact again" in capsys.readouterr().out


def test_build_chooser_and_modules_mean_the_same_format(choose):
    [written] = re.findall(r"^FORMAT = (\d+)$", MAKE_MANIFEST.read_text(), re.MULTILINE)
    assert int(written) == choose.FORMAT == _program.MANIFEST_FORMAT
