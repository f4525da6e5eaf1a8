# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove every program's numbers on every kernel; print one accuracy table.

python -m tests.kernel.matrix --artifact DIR [--short] [--others] [--kernel 5.10 ...] [--write-docs]

The kernels are Debian's of the artifact's architecture; Ubuntu's and one for clouds by name.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

from tests.lab import debian

from . import arm64, emulator, kernels
from .lab import UNFINISHED

ROOT = Path(__file__).resolve().parents[2]
LIVE, NATIVE, OTHERS = "live", "x86_64", "others"
# Pages: one for each architecture, and one for the kernels of others.
DOCS = {
    NATIVE: ROOT / "docs" / "accuracy.md",
    "aarch64": ROOT / "docs" / "accuracy_arm64.md",
    OTHERS: ROOT / "docs" / "accuracy_other_kernels.md",
}
# Kernels that differ from another one here in how they schedule, not in what they do: a case of
# each program tells.
ALWAYS_SHORT = ("6.12-rt",)
# Seconds for one kernel and for its boot, on a busy machine.
TIMEOUT = {"x86_64": 1800, "aarch64": 3600}
BOOT_TIMEOUT = {"x86_64": 420, "aarch64": 1200}
CONSOLE = 4000  # characters
WRONG = " **wrong** |"  # how a row ends
# Where a virtual machine has file systems of its own.
HIDDEN = ("/tmp", "/run", "/var/tmp", "/var/cache", "/dev")
# Program: the package of Debian that has it. What runs on arm64 is in the machines' own root.
TOOLS = {
    "x86_64": {
        "qemu-system-x86_64": "qemu-system-x86",
        "busybox": "busybox-static",
        "udevadm": "udev",
        "modprobe": "kmod",
        "dmsetup": "dmsetup",
        "ip": "iproute2",
        "tc": "iproute2",
        "setpriv": "util-linux",
        "mmdebstrap": "mmdebstrap",
    },
    "aarch64": {
        "qemu-system-aarch64": "qemu-system-arm",
        "busybox": "busybox-static",
        "modprobe": "kmod",
        "mmdebstrap": "mmdebstrap",
    },
}

GUEST = """#!/bin/sh
export PYTHONDONTWRITEBYTECODE=1
touch {out}.began
cd {root} && exec {python} -m tests.kernel.guest --artifact {root}/artifact --out {out} {options}
"""


def check_tools(architecture: str = NATIVE) -> None:
    """End with the command that installs what is missing."""
    path, tools = os.environ["PATH"] + ":/usr/sbin:/sbin", TOOLS[architecture]
    packages = sorted({p for tool, p in tools.items() if not shutil.which(tool, path=path)})
    if not Path(debian.KEYRING).exists():
        packages.append("debian-archive-keyring")
    if packages:
        sys.exit(f"missing: run apt-get install {' '.join(packages)}")
    if not Path(sys.executable).with_name("vng").exists():
        sys.exit(f"missing: run {sys.executable} -m pip install virtme-ng")
    if os.geteuid():
        sys.exit("run as root: the tests load programs and make network namespaces")


def end(process: subprocess.Popen) -> None:
    """Kill a process with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def stage(artifact: Path, work: Path) -> None:
    """Copy what the guests need to where they can see it."""
    hidden = [folder for folder in HIDDEN if work.resolve().is_relative_to(folder)]
    if hidden:
        sys.exit(f"{work} cannot be seen in a virtual machine: set XDG_CACHE_HOME to a folder "
                 f"that is not below {hidden[0]}")  # fmt: skip
    shutil.copytree(artifact, work / "artifact")
    shutil.copytree(ROOT / "tests" / "kernel", work / "tests" / "kernel")
    utilities = Path("plugins", "module_utils")
    shutil.copytree(
        ROOT / utilities, work / "ansible_collections" / "linmonitor" / "stack" / utilities
    )


def has_begun(process: subprocess.Popen, began: Path, timeout: float) -> bool:
    """Wait so many seconds until the guest's script runs; say whether it does."""
    deadline = time.monotonic() + timeout
    while not began.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    return began.exists()


def fetch(series: str, architecture: str) -> kernels.BootImage:
    """Return the newest kernel of a series for an architecture."""
    return kernels.fetch(series) if architecture == NATIVE else arm64.fetch(series)


def run_kernel(
    series: str, work: Path, options: str, at_once: bool = False, architecture: str = NATIVE
) -> dict:
    """Run the guest on one kernel; return what it wrote, and what the machine said at last."""
    out, script, log = (work / f"{series}.{kind}" for kind in ("json", "sh", "log"))
    options += " --live" if series == LIVE else ""
    options += " --short" if series in ALWAYS_SHORT else ""
    # The system's own Python: the virtual machine's root is this machine's, or has Debian's too.
    text = GUEST.format(root=work, python="/usr/bin/python3", out=out, options=options)
    script.write_text(text, encoding="utf-8")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    began = time.monotonic()
    kernel = None if series == LIVE else fetch(series, architecture)
    if kernel:
        process = kernel.boot(script, log, at_once)
    else:
        with log.open("w") as file:
            process = subprocess.Popen(
                [script], stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
    try:
        if has_begun(process, Path(f"{out}.began"), BOOT_TIMEOUT[architecture]):
            process.wait(timeout=TIMEOUT[architecture])
    except subprocess.TimeoutExpired:
        pass  # what it wrote says that it did not finish
    finally:
        end(process)
        if kernel:
            kernel.unlink()
    if out.exists():
        result = json.loads(out.read_text(encoding="utf-8"))
    else:
        result = {"kernel": series, "rows": [], "disturbed": [], "errors": [UNFINISHED]}
    said = log.read_text(encoding="utf-8", errors="replace")[-CONSOLE:] if result["errors"] else ""
    seconds = time.monotonic() - began
    print(f"{series}: {result['kernel']}, {len(result['rows'])} rows, {seconds:.0f} s", flush=True)
    result["errors"] = [f"{result['kernel']}: {text}" for text in [*result["errors"], said] if text]
    return result


def number(value: float) -> str:
    """Print a count whole and a duration in four digits."""
    return str(int(value)) if value == int(value) else f"{value:.4g}"


def error(row: dict) -> str:
    """Print the error of a row."""
    difference = row["measured"] - row["truth"]
    if row["is_timing"] and row["truth"]:
        return f"{100 * difference / row['truth']:+.1f} %"
    if difference < 0 and row["skipped"]:
        return f"{number(difference)} ({number(row['skipped'])} skipped)"
    return number(difference)


def table(results: list[dict]) -> list[str]:
    """Return the accuracy table as Markdown."""
    lines = ["| kernel | metric | case | variant | truth | measured | error |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for result in results:
        for row in result["rows"]:
            mark = " |" if row["passed"] else WRONG
            lines.append(
                f"| {result['kernel']} | {row['metric']} | {row['case']} | {row['variant']} "
                f"| {number(row['truth'])} | {number(row['measured'])} | {error(row)}{mark}"
            )
    return lines


def not_run(page: str) -> list[str]:
    """Name what no kernel of a page can show."""
    if page == OTHERS:
        return [
            "Not run: Ubuntu's other flavours (low latency, clouds, makers of hardware), its arm64",
            "kernels, a kernel that Secure Boot has locked, and the hosts of a cloud.",
        ]
    if page != NATIVE:
        return [
            "Not run: a processor that is not emulated; the roles on an arm64 host; the cases of",
            "SCSI disks (tests/kernel/cases_scsi.py): Debian's arm64 kernels have no scsi_debug.",
        ]
    return [
        "The two-argument form of block_rq_issue (before 5.10.137) runs on none of these kernels:",
        "not run. A unit test checks how its relocation resolves against both forms.",
        "",
        "Forecasts of fentry are not compared on the live kernel: it refuses fentry although its",
        "types have everything that fentry needs. Only the trial can know that.",
    ]


INTRODUCTION = """# Accuracy

Made by `make accuracy`: one line per kernel, metric, workload and variant.
The real exporter ran with the service's capabilities, once per variant and all at the same time,
so all saw the same events. "Truth" is what the workload did, or what the kernel's own
counters say. Counts must be equal. Durations may differ by 5 % for a disk and 10 % for a network:
the emulated machines add noise of their own. They prove counts, not nanoseconds.
"Skipped" are runs of the program that the kernel left out, by its own count: see
[what the kernel skips](../files/bpf/README.md#what-the-kernel-skips).
A case with a wrong count is tried once more, one with a wrong duration three times more; the run
prints what was wrong before.
The real-time kernel runs one case of each program: it differs in how it schedules.

"""


ARM64_INTRODUCTION = """# Accuracy on arm64

Made by `make accuracy-arm64` on {date}, in the way of [accuracy.md](accuracy.md): the artifact for
aarch64 on Debian's arm64 kernels, whose processor (a Neoverse N1) QEMU emulates on an x86_64
machine. One case of each program ran, and the forecasts; {passed} rows are right, {failed} are not.

A row of `forecast` is 1 where the variant loads, and 0 where it does not: "truth" is the
exporter's own trial and "measured" what [bpf_program_info](modules.md) forecast. Linux 6.1 lacks
CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS on arm64, so no fentry attaches there.

"""


OTHERS_INTRODUCTION = """# Accuracy on other kernels

Made by `make accuracy-others` on {date}, in the way of [accuracy.md](accuracy.md): Debian's kernel
for clouds, and the generic kernels of Ubuntu 22.04 (5.15) and 24.04 (6.8 and the newest for newer
hardware). They come from the archives, whose signatures apt checks, and run with the root of the
machine that emulates them. {passed} rows are right, {failed} are not.

A row of `forecast` is 1 where the variant loads, and 0 where it does not: "truth" is the
exporter's own trial and "measured" what [bpf_program_info](modules.md) forecast. On 5.15 fentry
attaches to no function of seven arguments, as on Debian's 6.1.

"""


def introduction(page: str, results: list[dict]) -> str:
    """Return what a page says before its table."""
    rows = [row["passed"] for result in results for row in result["rows"]]
    said = {NATIVE: INTRODUCTION, OTHERS: OTHERS_INTRODUCTION}.get(page, ARM64_INTRODUCTION)
    return said.format(
        date=f"{datetime.now(tz=timezone.utc):%Y-%m-%d}",
        passed=sum(rows), failed=len(rows) - sum(rows),
    )  # fmt: skip


def write_docs(page: str, results: list[dict], absent: list[str]) -> None:
    """Write a page, with the kernels on which not all cases ran to their end."""
    broken = [f"{result['kernel']}: not all ran" for result in results if result["errors"]]
    lines = [*table(results), "", *not_run(page), "", *(f"- {one}" for one in absent + broken)]
    text = introduction(page, results) + "\n".join(lines).rstrip() + "\n"
    DOCS[page].write_text(text, encoding="utf-8")


def default_series(page: str, is_short: bool) -> list[str]:
    """Return the kernels of a page, those that run where none are named."""
    if page == OTHERS:
        return list(kernels.OTHERS)
    if page != NATIVE:
        return list(arm64.SERIES)
    every = list(kernels.SUITES)
    return [*(every[:: len(every) - 1] if is_short else every), LIVE]


def guest_options(options: argparse.Namespace) -> str:
    """Return what of the options is for the guests."""
    only = ["--only", shlex.quote(options.only)] if options.only else []
    flags = [f"--{name}" for name in ("short", "races") if getattr(options, name)]
    return " ".join([*only, *flags])


def command_line() -> argparse.Namespace:
    """Return the options, and with them the artifact's architecture, the page and the kernels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifact", type=Path, required=True, help="folder of an artifact")
    parser.add_argument(
        "--kernel", action="append", choices=[*kernels.SUITES, *kernels.OTHERS, LIVE],
        help=f"default: all of Debian's, for aarch64 {' and '.join(arm64.SERIES)}",
    )  # fmt: skip
    parser.add_argument(
        "--others", action="store_true", help=f"run {', '.join(kernels.OTHERS)} instead"
    )
    parser.add_argument("--only", help="run only cases whose module.name matches this expression")
    parser.add_argument(
        "--short", action="store_true",
        help="one case for each program, on the oldest, the newest and the live kernel",
    )  # fmt: skip
    parser.add_argument(
        "--races", action="store_true",
        help="let the processors of a machine run at once, and try no wrong count again",
    )  # fmt: skip
    parser.add_argument("--jobs", type=int, default=2, help="virtual machines at a time")
    parser.add_argument(
        "--write-docs", action="store_true", help="write the page of these kernels below docs"
    )
    options = parser.parse_args()
    manifest = json.loads((options.artifact / "manifest.json").read_text(encoding="utf-8"))
    options.architecture = manifest["arch"]
    theirs = set(kernels.OTHERS)
    if options.kernel and theirs.issuperset(options.kernel):
        options.others = True
    options.page = OTHERS if options.others else options.architecture
    options.kernel = options.kernel or default_series(options.page, options.short)
    of_another_page = set(options.kernel) - theirs if options.others else theirs & {*options.kernel}
    if options.write_docs and of_another_page:
        parser.error(f"--write-docs writes one page, and {', '.join(of_another_page)} has another")
    foreign = {LIVE, *kernels.OTHERS}.intersection(options.kernel)
    if options.architecture != platform.machine() and foreign:
        parser.error(f"{', '.join(sorted(foreign))}: no kernels for {options.architecture}")
    return options


def main() -> None:
    """Run the matrix."""
    options = command_line()
    architecture, chosen = options.architecture, options.kernel
    check_tools(architecture)
    guest = guest_options(options)
    absent: list[str] = []
    machines = [series for series in chosen if series != LIVE]
    kernels.cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=kernels.cache()) as folder:
        work = Path(folder)
        work.chmod(0o755)
        stage(options.artifact, work)
        # Fetched before two machines want it.
        if options.races:
            emulator.at_once(kernels.cache())
        if architecture != NATIVE:
            arm64.root()

        def run(series: str) -> dict:
            try:
                return run_kernel(series, work, guest, options.races, architecture)
            except kernels.NotInArchive as gone:
                absent.append(f"{series}: not run, {gone}")
                return {"kernel": series, "rows": [], "disturbed": [], "errors": []}
            except (RuntimeError, OSError) as problem:
                return {
                    "kernel": series, "rows": [], "disturbed": [], "errors": [str(problem)]
                }  # fmt: skip

        with ThreadPoolExecutor(options.jobs) as pool:
            results = list(pool.map(run, machines))
        # Alone: the machine's own kernel counts what the emulators do, too.
        results += [run(series) for series in chosen if series == LIVE]
    lines = table(results)
    print("\n".join(lines))
    print(*not_run(options.page), *absent, sep="\n")
    rows = [row for result in results for row in result["rows"]]
    failed = [row for row in rows if not row["passed"]]
    for result in results:
        for text in result["disturbed"]:
            print(f"{result['kernel']}: disturbed, {text}")
    errors = [text for result in results for text in result["errors"]]
    # Again, where a long output is read.
    print(*errors, *(line for line in lines if line.endswith(WRONG)), sep="\n")
    if options.write_docs:
        write_docs(options.page, results, absent)
    print(f"{platform.node()}: {len(results) - len(absent)} kernels")
    print(f"{len(rows) - len(failed)} passed, {len(failed) + len(errors)} failed")
    sys.exit(bool(failed or errors or not rows))


if __name__ == "__main__":
    main()
