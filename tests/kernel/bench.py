# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what the programs cost, in nanoseconds per event and as ratios.

    python -m tests.kernel.bench --artifact DIR [--write]

On this machine's kernel, under load on its disk and its loopback device, with
kernel.bpf_stats_enabled. Upstream's biolatency is compiled on the spot from the
exporter's own Go module. Every design runs alone, in turn, in several rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.pins import DEFAULT, EXPORTER
from tests.unit.bpf_build import libbpf_include

from .bench_loads import LOADS
from .exporter import Exporter

MODULE = f"{EXPORTER['module']}@v{DEFAULT['exporter']}"
STATS = Path("/proc/sys/kernel/bpf_stats_enabled")
SOURCES = Path(__file__).resolve().parents[2] / "files" / "bpf"
CAPABILITIES = ["CAP_BPF", "CAP_PERFMON"]
LIMITS = {"tp_btf": 0.22, "raw_tp": 0.37}  # of upstream's biolatency, in the same run
EMPTY_YAML = "metrics: {counters: [{name: empty_total, help: nothing, labels: []}]}\n"


def compile_object(source: Path, target: Path, *flags: str) -> None:
    """Compile a BPF object."""
    command = ["clang", "-target", "bpf", "-mcpu=v3", "-g", "-O2", "-D__TARGET_ARCH_x86"]
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([*command, *flags, "-c", str(source), "-o", str(target)], check=True)


def prepare(artifact: Path, libbpf: Path, folder: Path) -> None:
    """Lay out an artifact with upstream's program and the empty ones beside ours."""
    (folder / "bin").mkdir()
    shutil.copy(artifact / "bin" / "ebpf_exporter", folder / "bin")
    shutil.copytree(artifact / "programs", folder / "programs")
    told = subprocess.run(
        ["go", "mod", "download", "-json", MODULE], check=True, capture_output=True, text=True
    )
    examples = Path(json.loads(told.stdout)["Dir"]) / "examples"
    with (folder / "vmlinux.h").open("w") as header:
        dump = ["bpftool", "btf", "dump", "file", "/sys/kernel/btf/vmlinux", "format", "c"]
        subprocess.run(dump, check=True, stdout=header)
    upstream = folder / "programs" / "upstream"
    compile_object(
        examples / "biolatency.bpf.c",
        upstream / "raw_tp.bpf.o",
        *(f"-I{folder}", f"-I{examples}", f"-I{libbpf}"),
        # It counts on a newer libbpf, whose headers include each other.
        *("-include", "vmlinux.h", "-include", "bpf/bpf_helpers.h"),
    )
    shutil.copy(examples / "biolatency.yaml", upstream / "upstream.yaml")
    for design, variant in itertools.product(("empty", "clock"), ("tp_btf", "raw_tp")):
        compile_object(
            Path(__file__).with_name("empty.bpf.c"),
            folder / "programs" / design / f"{variant}.bpf.o",
            *(f"-I{SOURCES / 'include'}", f"-I{libbpf}"),
            *(f"-DVARIANT_{variant.upper()}", f"-DLOOKS_AT_{design.upper()}"),
        )
        (folder / "programs" / design / f"{design}.yaml").write_text(EMPTY_YAML, encoding="utf-8")


# Config: what makes it run, and the programs that make one event.
EVENTS = {
    "upstream": "block",
    "biolatency": "block",
    "tcp-syn-backlog": "tcp",
    "tcp-connect-time": "tcp",
    "tcp-rtt": "tcp",
    "tcp-retransmit": "loss",
    "tcp-window-clamps": "tcp",
}
# Where not all programs of a config make one event: those that do.
PROGRAMS = {"tcp-rtt": ("receive",), "tcp-window-clamps": ("receive",)}
HOOK = {
    "block": ("empty_block_rq_issue", "empty_block_rq_complete"),
    "tcp-rtt": ("empty_tcp_probe",),
    "tcp-syn-backlog": ("empty_inet_sock_set_state",),
    "tcp-connect-time": ("empty_inet_sock_set_state",) * 2,  # its start and its end
    "tcp-retransmit": ("empty_tcp_retransmit_skb",),
    "tcp-window-clamps": ("empty_tcp_probe",),
}


def cost(artifact: Path, config: str, variant: str, load: str, seconds: float) -> dict[str, float]:
    """Return each program's nanoseconds per run under a load."""
    exporter = Exporter(artifact, {config: variant}, CAPABILITIES, f"{config} {variant}")
    exporter.wait()
    before = exporter.metrics()
    LOADS[load](seconds)
    after = exporter.metrics()
    delta = after - before
    names = {
        dict(labels)["id"]: dict(labels)["program"]
        for (name, labels) in after.samples
        if name == "ebpf_exporter_ebpf_program_info"
    }
    exporter.stop()
    runs_of = {
        program: delta.total("ebpf_program_run_count_total", id=number)
        for number, program in names.items()
    }
    costs = {}
    for number, program in names.items():
        runs = delta.total("ebpf_program_run_count_total", id=number)
        if runs > 1000:  # fewer say nothing
            spent = delta.total("ebpf_program_run_time_seconds", id=number)
            # Publishing is not done for each event: each one bears a share.
            events = runs_of["complete"] if program == "publish" else runs
            costs[program] = spent / events * 1e9
    return costs


def write_cost(config: str, variant: str, total: float, net: float) -> None:
    """Write what an event cost to the program's program.yml, from which the pages are made."""
    path = SOURCES / config / "program.yml"
    text = path.read_text(encoding="utf-8")
    line = re.compile(rf"(- name: {variant}\n(?:    .*\n)*?    cost: ).*")
    text, changed = line.subn(rf"\g<1>{{total: {total:.0f}, net: {net:.0f}}}", text)
    if changed != 1:
        raise RuntimeError(f"{path} has no line for the cost of {variant}")
    path.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def kernel_setting(file: Path, value: str) -> Iterator[None]:
    """Have a value in a file of the kernel for a while."""
    before = file.read_text(encoding="ascii")
    file.write_text(value, encoding="ascii")
    try:
        yield
    finally:
        file.write_text(before, encoding="ascii")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifact", type=Path, required=True, help="folder of an artifact")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="load per design and round")
    parser.add_argument(
        "--write", action="store_true", help="write the costs to program.yml, and judge none"
    )
    options = parser.parse_args()
    designs = [("upstream", "raw_tp", "block")]
    for variant in ("tp_btf", "raw_tp"):
        designs += [("empty", variant, load) for load in LOADS] + [("clock", variant, "block")]
        designs += [(c, variant, load) for c, load in EVENTS.items() if c != "upstream"]
    seen: dict[tuple, list[dict[str, float]]] = {design: [] for design in designs}
    with tempfile.TemporaryDirectory(prefix="linmonitor-") as folder:
        artifact = Path(folder)
        prepare(options.artifact.resolve(), libbpf_include(), artifact)
        with kernel_setting(STATS, "1"):
            for _ in range(options.rounds):
                for design in designs:
                    seen[design].append(cost(artifact, *design, options.seconds))

    def median(config: str, variant: str, load: str, programs: tuple[str, ...] = ()) -> float:
        """Return the median over the rounds of a design's cost per event."""
        rounds = seen[config, variant, load]
        return statistics.median(
            sum(costs[program] for program in programs or costs) for costs in rounds
        )

    upstream = median("upstream", "raw_tp", "block")
    print(f"{'config':18} {'variant':8} {'ns':>7} {'empty':>7} {'net':>7}  ratio")
    print(f"{'upstream':18} {'raw_tp':8} {upstream:7.0f} {'':7} {'':7}  1.00")
    for variant in LIMITS:
        clock = median("clock", variant, "block")
        print(
            f"{'only the clock':18} {variant:8} {clock:7.0f} {'':7} {'':7}"
            f"  {clock / upstream:.2f} of upstream: no program with a start and an end costs less"
        )
    failed = 0
    for config, load in list(EVENTS.items())[1:]:
        net = {}
        for variant in ("raw_tp", "tp_btf"):
            total = median(config, variant, load, PROGRAMS.get(config, ()))
            empty = median("empty", variant, load, HOOK.get(config, HOOK["block"]))
            net[variant] = total - empty
            ratio = f"{net[variant] / net['raw_tp']:.2f} of raw_tp, net"
            if load == "block":
                ratio += f"; {total / upstream:.2f} of upstream"
                limit = LIMITS[variant]
                if total > limit * upstream:
                    failed += 1
                    ratio += f" (limit {limit})"
            if options.write:
                write_cost(config, variant, total, net[variant])
            print(f"{config:18} {variant:8} {total:7.0f} {empty:7.0f} {net[variant]:7.0f}  {ratio}")
    print(f"{len(LIMITS) - failed} passed, {failed} failed")
    sys.exit(0 if options.write else failed)


if __name__ == "__main__":
    main()
