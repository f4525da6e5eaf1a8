# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose, on the running kernel, which variant of each wanted program the exporter loads.

Run by the unit before each start (ExecCondition=) and by the trial before a release is
switched on, in both cases as the service's own user with its capabilities and sandbox. One
object that fails to load would end the whole exporter, so each is tried alone and the
chosen ones together, by the exporter itself. Hosts reboot into other kernels without
anybody deploying anything, so a verdict belongs to the kernel it was found on.

Writes into the runtime directory: configs/ with links to the chosen files, `environment`
for the unit, and choice.json with every verdict. Exit status: 0 something was chosen,
1 nothing can run here (systemd then skips the unit), 2 strict and something was left out,
255 this is no release that it can read (systemd then fails the unit).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

TRIAL_SECONDS = 60
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


class Kernel:
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


class Memory:
    """Permanent refusals of earlier trials on the same kernel."""

    def __init__(self, folder: Path, key: str) -> None:
        """Read what is remembered under `key`; anything else is forgotten."""
        self.path = folder / "refusals.json"
        self.key = key
        self.refusals: dict[str, str] = {}
        try:
            stored = json.loads(self.path.read_text())
            if stored["key"] == key:
                self.refusals = stored["refusals"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # nothing usable is remembered; the trials will say it again

    def save(self) -> None:
        """Replace the file in one step, so that a cut never leaves half of it."""
        draft = self.path.with_suffix(".new")
        draft.write_text(json.dumps({"key": self.key, "refusals": self.refusals}, indent=1))
        draft.replace(self.path)


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

    def __init__(self, release: Path, memory: Memory) -> None:
        """Take the release's manifest; `memory` spares known refusals their trial."""
        self.release = release
        self.memory = memory
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
        if name in self.memory.refusals:
            return self.memory.refusals[name]
        verdict = self.load({config: variant})
        if verdict.reason and verdict.permanent:
            self.memory.refusals[name] = verdict.reason
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
        if not alone or not self.load(alone).reason:
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
    memory = Memory(options.state, Kernel.key(options.release, effective_capabilities()))
    try:
        chooser = Chooser(options.release, memory)
    except FormatError as error:
        print(error)
        return 255
    verdicts = chooser.choose(settings["configs"])
    memory.save()
    publish(chooser, options.runtime, verdicts)
    report(verdicts)
    chosen = variants_of(verdicts)
    if settings["strict"] and len(chosen) < len(verdicts):
        return 2
    return 0 if chosen else 1


if __name__ == "__main__":
    sys.exit(main())
