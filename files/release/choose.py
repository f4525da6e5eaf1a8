# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose, on the running kernel, which variant of each wanted program the exporter loads.

Run by the unit before each start (ExecCondition=) and by the trial before a release is
switched on, in both cases as the service's own user with its capabilities and sandbox. One
object that fails to load would end the whole exporter, so each is tried alone and the
chosen ones together, by the exporter itself. Hosts reboot into other kernels without
anybody deploying anything, so a verdict belongs to the kernel it was found on.

Verdicts are remembered per kernel and release, so a start that says nothing new tries nothing:
whoever asks the exporter waits meanwhile.

Writes into the runtime directory: configs/ with links to the chosen files, `environment`
for the unit, and choice.json with every verdict. Exit status: 0 something was chosen. To
systemd 1 to 254 mean a unit that is skipped, which is what these do: 100 nothing can run here,
101 strict and something was left out. 255 is everything else that can go wrong, an artifact that
it cannot read included: systemd then fails the unit, and starts it again where it is the service.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import NamedTuple

CHOSEN, NOTHING_RUNS, STRICT, FAILED_TO_CHOOSE = 0, 100, 101, 255
TRIAL_SECONDS = 60
# What is asked for beside it before each trial: on a starved machine the chooser is slow too.
SPARE_SECONDS = 60
# An exporter that lasts so long has loaded what was remembered; one that is started again before
# may have ended because of it, and everything is tried afresh.
PROVEN_SECONDS = 60
# A rollback finds the verdicts of the release before.
REMEMBERED = 4
# Of the manifest: an artifact that is older or newer than this chooser is not guessed at.
FORMAT = 2
# Refusals that say something about the moment, not about the kernel.
PASSING = ("cannot allocate memory", "resource temporarily unavailable", "too many open files")

# The two last lines with which the exporter ends a check.
MISSED = re.compile(r"Missed attachments \(module:prog\): (.*)")
FAILED = re.compile(r"^.*for config \"[^\"]*\": ")


class FormatError(ValueError):
    """The artifact is of another version than the chooser; the message says what to do."""


class Verdict(NamedTuple):
    """What a trial said; `reason` is empty when the kernel took the program."""

    reason: str
    permanent: bool


class Identity:
    """Identity of the kernel and of what limits BPF on it: the key of remembered verdicts."""

    SOURCES = (
        "/sys/kernel/btf/vmlinux",
        "/proc/sys/kernel/perf_event_paranoid",
        "/proc/sys/kernel/unprivileged_bpf_disabled",
        "/sys/kernel/security/lockdown",
    )

    @classmethod
    def key(cls, release: Path, capabilities: str) -> str:
        """Return a hash that changes whenever a refusal might no longer hold."""
        # Kernels before 5.11 refuse maps beyond this limit with the same word as a lack of rights.
        memory = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        digest = hashlib.sha256(f"{os.uname()}{release.name}{capabilities}{memory}".encode())
        for source in cls.SOURCES:
            try:
                digest.update(Path(source).read_bytes())
            except OSError as error:
                digest.update(str(error.errno).encode())
        return digest.hexdigest()


def effective_capabilities() -> str:
    """Return this process's effective capabilities as the kernel prints them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return line.split()[1]
    return ""


class Remembered:
    """Verdicts of earlier trials: permanent refusals, and what loaded together."""

    def __init__(self, folder: Path, key: str) -> None:
        """Read what is remembered under `key`, and keep the newest of what is under others."""
        self.path = folder / "verdicts.json"
        self.refusals: dict[str, str] = {}
        self.accepted: list[str] = []
        self.used = ("", 0.0)  # the boot, and its age, at which `accepted` was used untried
        self.others: list[dict] = []
        self.key = key
        try:
            stored = json.loads(self.path.read_text())
            self.others = [entry for entry in stored if entry["key"] != key][: REMEMBERED - 1]
            for entry in stored:
                if entry["key"] == key:
                    boot, age = entry["used"]
                    self.refusals, self.used = dict(entry["refusals"]), (str(boot), float(age))
                    self.accepted = [str(name) for name in entry["accepted"]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass  # nothing usable is remembered; the trials will say it again

    def trust(self) -> None:
        """Note that what was accepted is used untried, or forget it where that went wrong."""
        boot, now = uptime()
        if self.used[0] == boot and now - self.used[1] < PROVEN_SECONDS:
            self.accepted = []
        self.used = (boot, now) if self.accepted else ("", 0.0)

    def save(self) -> None:
        """Replace the file in one step, so that a cut never leaves half of it."""
        names = ("key", "refusals", "accepted", "used")
        mine = {name: getattr(self, name) for name in names}
        draft = self.path.with_suffix(".new")
        try:
            draft.write_text(json.dumps([mine, *self.others], indent=1))
            draft.replace(self.path)
        except OSError as error:  # a full disk: the next start tries again what this one tried
            print(f"the verdicts are not remembered: {error}")


def uptime() -> tuple[str, float]:
    """Return which boot of the machine this is, and its age, which no clock set back changes."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return boot, time.clock_gettime(time.CLOCK_BOOTTIME)


def ask_for_time() -> None:
    """Let systemd wait for one more trial, however many came before."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    message = f"EXTEND_TIMEOUT_USEC={(TRIAL_SECONDS + SPARE_SECONDS) * 1_000_000}"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect(address.replace("@", "\0", 1))
        manager.send(message.encode())


def reason_of(output: str) -> str:
    """Return what the exporter's last line says, without the paths of the trial."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    missed = MISSED.match(last)
    if missed:
        programs = sorted(pair.split(":")[-1] for pair in missed[1].split(", "))
        return f"not attached: {', '.join(programs)}"
    return FAILED.sub("", last)


class Chooser:
    """Tries the variants of a release with the release's own exporter."""

    def __init__(self, release: Path, remembered: Remembered) -> None:
        """Take the release's manifest; `remembered` spares known refusals their trial."""
        self.release = release
        self.remembered = remembered
        manifest = json.loads((release / "manifest.json").read_text())
        if manifest.get("format") != FORMAT:
            raise FormatError(
                f"{release}/manifest.json has format {manifest.get('format')}, and this release "
                f"reads {FORMAT}: build the artifact again with this version of the collection"
            )
        self.catalogue = manifest["catalogue"]

    def link(self, folder: Path, chosen: dict[str, str]) -> None:
        """Fill `folder` with the pairs of files by which the exporter finds its configs."""
        folder.mkdir()
        for config, variant in chosen.items():
            source = self.release / "programs" / config
            (folder / f"{config}.yaml").symlink_to(source / f"{config}.yaml")
            (folder / f"{config}.bpf.o").symlink_to(source / f"{variant}.bpf.o")

    def load(self, chosen: dict[str, str]) -> Verdict:
        """Let the exporter load and attach these variants, then end."""
        ask_for_time()
        with tempfile.TemporaryDirectory() as scratch:
            configs = Path(scratch) / "configs"
            self.link(configs, chosen)
            command = [
                str(self.release / "bin" / "ebpf_exporter"),
                f"--config.dir={configs}",
                f"--config.names={','.join(chosen)}",
                "--config.check",
                "--config.strict",
                "--log.no-timestamps",
            ]
            try:
                done = subprocess.run(
                    command,
                    # The unit is not ready because an exporter on trial is.
                    env={k: v for k, v in os.environ.items() if k != "NOTIFY_SOCKET"},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=TRIAL_SECONDS,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return Verdict(f"its trial took longer than {TRIAL_SECONDS} s", permanent=False)
        if done.returncode == 0:
            return Verdict("", permanent=True)
        passing = done.returncode < 0 or any(word in done.stdout.lower() for word in PASSING)
        reason = reason_of(done.stdout) or f"the exporter ended with {done.returncode}"
        return Verdict(reason, permanent=not passing)

    def try_variant(self, config: str, variant: str) -> str:
        """Return why a variant cannot run here, or an empty string."""
        name = f"{config}/{variant}"
        if name in self.remembered.refusals:
            return self.remembered.refusals[name]
        if name in self.remembered.accepted:
            return ""
        verdict = self.load({config: variant})
        if verdict.reason and verdict.permanent:
            self.remembered.refusals[name] = verdict.reason
        return verdict.reason

    def choose(self, wanted: list[str]) -> dict[str, dict]:
        """Return for each wanted config its variant (or None) and the reasons against others."""
        verdicts: dict[str, dict] = {}
        for config in wanted:
            entry: dict = {"variant": None, "refused": {}}
            for variant in self.catalogue["configs"][config]["variants"]:
                reason = self.try_variant(config, variant["name"])
                if not reason:
                    entry["variant"] = variant["name"]
                    break
                entry["refused"][variant["name"]] = reason
            verdicts[config] = entry
        self._fit_together(verdicts)
        return verdicts

    def _fit_together(self, verdicts: dict[str, dict]) -> None:
        """Leave out what loads alone but not beside the others."""
        alone = variants_of(verdicts)
        known = sorted(self.remembered.accepted) == names_of(alone)
        if not alone or known or not self.load(alone).reason:
            return
        together: dict[str, str] = {}
        for config, variant in alone.items():
            verdict = self.load({**together, config: variant})
            if verdict.reason:
                verdicts[config]["variant"] = None
                verdicts[config]["refused"][variant] = f"beside the others: {verdict.reason}"
            else:
                together[config] = variant


def variants_of(verdicts: dict[str, dict]) -> dict[str, str]:
    """Return the chosen variant of each config that has one."""
    return {name: entry["variant"] for name, entry in verdicts.items() if entry["variant"]}


def names_of(chosen: dict[str, str]) -> list[str]:
    """Return chosen variants as one name each."""
    return sorted(f"{config}/{variant}" for config, variant in chosen.items())


def publish(chooser: Chooser, runtime: Path, verdicts: dict[str, dict]) -> None:
    """Write what the unit and the health check read."""
    chosen = variants_of(verdicts)
    configs = runtime / "configs"
    shutil.rmtree(configs, ignore_errors=True)
    chooser.link(configs, chosen)
    (runtime / "environment").write_text(f"EBPF_EXPORTER_CONFIGS={','.join(chosen)}\n")
    choice = {"release": chooser.release.name, "kernel": os.uname().release, "configs": verdicts}
    (runtime / "choice.json").write_text(json.dumps(choice, indent=1) + "\n")


def report(verdicts: dict[str, dict]) -> None:
    """Say in the journal what was chosen and what was left out, and why."""
    for config, entry in verdicts.items():
        if entry["variant"]:
            print(f"{config}: runs as {entry['variant']}")
        else:
            reasons = "; ".join(f"{name}: {why}" for name, why in entry["refused"].items())
            print(f"{config}: left out on kernel {os.uname().release} ({reasons})")


def main(arguments: list[str] | None = None) -> int:
    """Choose, publish and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--release", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--runtime", type=Path, default=os.environ.get("RUNTIME_DIRECTORY"))
    parser.add_argument("--state", type=Path, default=os.environ.get("STATE_DIRECTORY"))
    options = parser.parse_args(arguments)
    if not options.runtime or not options.state:
        parser.error("--runtime and --state are needed outside a systemd unit")
    settings = json.loads((options.release / "settings.json").read_text())
    remembered = Remembered(options.state, Identity.key(options.release, effective_capabilities()))
    try:
        chooser = Chooser(options.release, remembered)
    except FormatError as error:
        print(error)
        return FAILED_TO_CHOOSE
    remembered.trust()
    verdicts = chooser.choose(settings["configs"])
    chosen = variants_of(verdicts)
    remembered.accepted = names_of(chosen)
    remembered.save()
    publish(chooser, options.runtime, verdicts)
    report(verdicts)
    if settings["strict"] and len(chosen) < len(verdicts):
        return STRICT
    return CHOSEN if chosen else NOTHING_RUNS


def status() -> int:
    """Return the exit status, which is never one that means a verdict where there is none."""
    try:
        result = main()
        sys.stdout.flush()
    except SystemExit as end:  # of argparse, with an explanation
        return CHOSEN if end.code in (None, 0) else FAILED_TO_CHOOSE
    except BaseException:
        traceback.print_exc()
        return FAILED_TO_CHOOSE
    return result


if __name__ == "__main__":
    sys.exit(status())
