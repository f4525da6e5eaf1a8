# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases of the exporter on a host: how one takes over, and how the one before comes back.

The module ebpf_release looks and unpacks. What cannot be left half done is a job, and runs in a
transient unit of systemd, which outlives the connection and the controller and is started again
when it is killed: it executes a copy of this very file. So this file needs nothing but the
standard library, and a job that is done twice ends as one that is done once.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile

UNIT = "ebpf_exporter.service"
SOCKET = "ebpf_exporter.socket"
# In the order in which they are taken away: what needs another one goes first.
INSTALLED = (UNIT, SOCKET)
TRIAL_UNIT = "ebpf_exporter-trial.service"
UNITS = "/etc/systemd/system"
# Units in this folder are gone with the next boot at the latest.
TRIAL_UNITS = "/run/systemd/system"
TRIAL_RUNTIME = "/run/ebpf_exporter-trial"
RUNTIME = "/run/ebpf_exporter"
# What DynamicUser= makes of StateDirectory=ebpf_exporter: a link and a folder.
STATES = ("/var/lib/ebpf_exporter", "/var/lib/private/ebpf_exporter")
PYTHON = "/usr/bin/python3"
# Made by the unpacking of an artifact, and by the role: nothing else is a release.
NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}$")
DRAFT = "draft-"
LINES = 20


class Fault(Exception):
    """What went wrong, as a sentence for the person who deploys."""


def run(*command):
    # type: (str) -> tuple[int, str]
    """Run a command; return its status and what it said."""
    # Also where no module is at hand: the second half of a deploy is a unit of its own.
    done = subprocess.run(  # pylint: disable=ansible-bad-function
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=dict(os.environ, LC_ALL="C.UTF-8"),
        check=False,
    )
    return done.returncode, done.stdout.strip()


def step(name):
    # type: (str) -> None
    """Say in the journal what comes next."""
    sys.stdout.write(name + "\n")
    sys.stdout.flush()


def unit_property(unit, name):
    # type: (str, str) -> str
    """Return one property of a systemd unit."""
    return run("systemctl", "show", "--value", "--property", name, unit)[1]


def journal(unit):
    # type: (str) -> str
    """Return the last lines of a unit's journal."""
    lines = "--lines=%d" % LINES
    return run("journalctl", "--unit=" + unit, lines, "--no-pager", "--output=cat")[1]


def read(path):
    # type: (str) -> str
    """Return a file's text, nothing where there is none."""
    try:
        # The service owns some of what is read here, and may have put anything in its place.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                return ""
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""


def meaning(text):
    # type: (str) -> list
    """Return a text's lines but the comments: ansible_managed is another one on each controller."""
    return [line for line in text.splitlines() if not line.startswith("#")]


def read_json(path):
    # type: (str) -> dict
    """Return a JSON object, an empty one where there is none that can be read."""
    try:
        content = json.loads(read(path))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def write(path, text, mode=0o644):
    # type: (str, str, int) -> None
    """Write a file so that a cut leaves the old one or the new one, whatever the umask is."""
    # One name, so that what a cut leaves is overwritten by the next run.
    draft = os.path.join(os.path.dirname(path), ".%s.new" % os.path.basename(path))
    with open(draft, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(draft, mode)
    os.replace(draft, path)


def remove(path):
    # type: (str) -> None
    """Remove a file, a link or a folder with all that is in it, if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def make_folders(path):
    # type: (str) -> None
    """Make a folder and those above it, open to the service's user whatever the umask is."""
    if os.path.isdir(path):
        return
    make_folders(os.path.dirname(path))
    try:
        os.mkdir(path)
    except FileExistsError:
        # Another execution made it meanwhile, for another instance on this host.
        if not os.path.isdir(path):
            raise
    os.chmod(path, 0o755)


# --- what is there


class Releases:
    """The releases below a root folder, and the link to the one that is on."""

    def __init__(self, root):
        # type: (str) -> None
        self.root = root
        self.folder = os.path.join(root, "releases")
        self.link = os.path.join(root, "current")

    def path(self, name):
        # type: (str) -> str
        """Return the folder of a release."""
        return os.path.join(self.folder, name)

    def names(self):
        # type: () -> list
        """Return what lies among the releases."""
        return sorted(os.listdir(self.folder)) if os.path.isdir(self.folder) else []

    def current(self):
        # type: () -> str
        """Return the name of the release that the link points to, nothing where there is none."""
        return os.path.basename(os.readlink(self.link)) if os.path.islink(self.link) else ""

    def healthy(self):
        # type: () -> list
        """Return the releases that were healthy, the last one first."""
        marks = {name: self._mark(name) for name in self.names()}
        turns = {name: self._turn(mark) for name, mark in marks.items() if os.path.exists(mark)}
        return sorted(turns, key=lambda name: turns[name], reverse=True)

    def _mark(self, name):
        # type: (str) -> str
        return os.path.join(self.path(name), "healthy")

    def _turn(self, mark):
        # type: (str) -> tuple
        """Return what sorts a mark among the others: clocks are set back, numbers are not."""
        said = read(mark)
        return int(said) if said.isdigit() else 0, os.stat(mark).st_mtime_ns

    def before(self, name):
        # type: (str) -> str
        """Return the release that was healthy last, but for one; nothing where there is none."""
        return next((one for one in self.healthy() if one != name), "")

    def faults(self, name):
        # type: (str) -> str
        """Let a release check itself; return what it finds wrong, nothing where it is healthy."""
        status, said = run(PYTHON, "-B", os.path.join(self.path(name), "health.py"))
        return "" if status == 0 else said or "health.py ended with %d" % status

    def remember(self, name):
        # type: (str) -> None
        """Write down that a release is healthy now."""
        turns = [self._turn(self._mark(one))[0] for one in self.healthy()]
        write(self._mark(name), str(max(turns, default=0) + 1))

    def unfinished(self):
        # type: () -> list
        """Return what interrupted runs left among the releases."""
        return [name for name in self.names() if name.startswith(DRAFT)]

    def superfluous(self, keep):
        # type: (int) -> list
        """Return what is no longer needed: drafts, what was never healthy, and old releases."""
        healthy, current = self.healthy(), self.current()
        # Never the one that runs, however few are to stay.
        kept = [current, *(name for name in healthy if name != current)][: max(keep, 1)]
        known = [name for name in self.names() if NAME.match(name)]
        return self.unfinished() + [name for name in known if name not in kept]


def choice(runtime):
    # type: (str) -> dict
    """Return what the chooser wrote into a runtime folder."""
    return read_json(os.path.join(runtime, "choice.json"))


# --- the trial


def try_release(folder):
    # type: (str) -> tuple[dict, str]
    """Run a release's own trial unit; return its verdicts, and what it said if it failed."""
    _clear_trial()
    try:
        make_folders(TRIAL_UNITS)
        write(os.path.join(TRIAL_UNITS, TRIAL_UNIT), read(os.path.join(folder, TRIAL_UNIT)))
        run("systemctl", "daemon-reload")
        status, said = run("systemctl", "start", TRIAL_UNIT)
        return choice(TRIAL_RUNTIME), "" if status == 0 else journal(TRIAL_UNIT) or said
    finally:
        _clear_trial()


def _clear_trial():
    # type: () -> None
    """Leave no trial at work, whoever began it, and nothing of it."""
    run("systemctl", "stop", TRIAL_UNIT)
    # DynamicUser= makes the folder elsewhere, and a link to it.
    folder = os.path.realpath(TRIAL_RUNTIME)
    for path in (os.path.join(TRIAL_UNITS, TRIAL_UNIT), TRIAL_RUNTIME, folder):
        remove(path)
    run("systemctl", "daemon-reload")
    run("systemctl", "reset-failed", TRIAL_UNIT)


# --- the job


class Job:
    """A switch to a release, or its trial alone, from any point at which an earlier try ended.

    What a job says: kind (switch or trial), host, root, release, draft (where the release was
    unpacked, or nothing), keep_releases, adopted (the units of somebody else's that ours replace,
    each with copy, active and enabled) and record (the file that says what is ours). A switch says
    whether to try it first (trial), a trial what it makes on the host (made and states).
    """

    def __init__(self, job, path):
        # type: (dict, str) -> None
        self.job = job
        self.path = path
        self.name = job["release"]
        self.releases = Releases(job["root"])
        self.folder = self.releases.path(self.name)

    def perform(self):
        # type: () -> dict
        """Do it; return the verdicts of a trial alone."""
        if self.job["kind"] == "trial":
            return self.trial()
        self.switch()
        return {}

    def trial(self):
        # type: () -> dict
        """Try a release, and leave nothing behind that was not there before."""
        try:
            self._put_in_place()
            step("try the programs")
            verdicts, fault = try_release(self.folder)
        finally:
            if self.job["draft"]:
                remove(self.folder)
                remove_empty(self.job["made"])
            for path in self.job["states"]:
                remove(path)
        # It fails where nothing can run too; only a missing choice is an error here.
        if not verdicts:
            raise Fault(
                "The trial of release %s on %s gave no verdict: %s"
                % (self.name, self.job["host"], fault)
            )
        return verdicts

    def switch(self):
        # type: () -> None
        """Switch to the release, or go back to the one that was healthy last."""
        # What an earlier try of this job found, which was cut off before it had ended.
        if self.job.get("refused"):
            self._refuse(self.job["refused"])
        if self.job.get("fault"):
            self._go_back(self.job["fault"])
        self._put_in_place()
        if self.job["trial"]:
            self._try()
        try:
            self._point_to(self.name)
            step("check the health")
            faults = self.releases.faults(self.name)
        except Exception as error:  # whatever it is, nothing stays between two releases
            faults = str(error)
        if faults:
            self._go_back("%s Journal: %s" % (faults, journal(UNIT)))
        step("remember that it is healthy")
        self.releases.remember(self.name)
        step("tidy")
        for name in self.releases.superfluous(self.job["keep_releases"]):
            remove(self.releases.path(name))

    def _put_in_place(self):
        # type: () -> None
        draft = self.job["draft"]
        if not draft or not os.path.isdir(draft):
            return
        step("put the release in place")
        if os.path.lexists(self.folder):
            # Damaged, or left by a run that was cut off; gone with the drafts.
            os.rename(self.folder, tempfile.mkdtemp(prefix=DRAFT, dir=self.releases.folder))
        os.rename(draft, self.folder)

    def _try(self):
        # type: () -> None
        step("try the programs")
        _verdicts, fault = try_release(self.folder)
        if fault:
            self._refuse(fault)

    def _note(self, what, words):
        # type: (str, str) -> None
        """Keep what was found, for the case that what follows is cut off."""
        self.job[what] = words
        write(self.path, json.dumps(self.job), 0o600)

    def _refuse(self, words):
        # type: (str) -> None
        """Stop before anything was switched."""
        self._note("refused", words)
        self._forget_if_never_healthy()
        raise Fault(
            "Release %s failed its trial on %s (kernel %s); what ran before still runs. With "
            "ebpf_exporter_strict every wanted program must load; without it at least one. "
            "The trial said: %s" % (self.name, self.job["host"], os.uname().release, words)
        )

    def _forget_if_never_healthy(self):
        # type: () -> None
        """Remove a release that never was healthy, so that the next run unpacks it afresh."""
        if self.name not in self.releases.healthy() and self.name != self.releases.current():
            remove(self.folder)

    def _point_to(self, name):
        # type: (str) -> None
        """Switch link and unit together, and restart the exporter."""
        step("point the link to %s" % name)
        link = self.releases.link + ".new"
        remove(link)
        os.symlink(self.releases.path(name), link)
        os.replace(link, self.releases.link)
        step("install its units")
        for unit in INSTALLED:
            install(unit, read(os.path.join(self.releases.path(name), unit)))
        step("restart the exporter")
        run("systemctl", "daemon-reload")
        run("systemctl", "reset-failed", *INSTALLED)
        for verb in ("restart", "enable"):
            status, said = run("systemctl", verb, UNIT)
            if status != 0:
                raise Fault("systemctl %s %s: %s" % (verb, UNIT, said))

    def _go_back(self, fault):
        # type: (str) -> None
        """Go back to the release that was healthy last, and say why."""
        self._note("fault", fault)
        back = self.releases.before(self.name)
        if back:
            step("go back to %s" % back)
            after = "release %s runs again" % back
            try:
                self._point_to(back)
                faults = self.releases.faults(back)
            except Exception as error:
                faults = str(error)
            if faults:
                after = "release %s is on again and not well either: %s" % (back, faults)
        else:
            step("take it away")
            after = "there was none before it"
            withdraw(self.releases, self.job["adopted"])
        self._forget_if_never_healthy()
        if not back:
            remove_empty(read_json(self.job["record"]).get("folders", []))
            forget(self.job["record"])
        raise Fault(
            "Release %s did not run well on %s and was taken back; %s. %s"
            % (self.name, self.job["host"], after, fault)
        )


def install(unit, text):
    # type: (str, str) -> None
    """Have a unit installed as it is in a release, or not at all where the release has none."""
    path = os.path.join(UNITS, unit)
    # A listener stays open while releases change, unless they differ in it: then it is closed
    # before its file says so, so that a cut in between leaves no open one that nobody describes.
    if unit == SOCKET and meaning(read(path)) != meaning(text):
        run("systemctl", "stop", SOCKET)
    if text:
        # A copy and not a link: systemd reads units before /opt may be mounted.
        write(path, text)
    else:
        remove(path)


def withdraw(releases, adopted, units=INSTALLED):
    # type: (Releases, dict, tuple) -> None
    """Take units of ours and the link away, and put back the units that ours replaced."""
    for unit in units:
        run("systemctl", "disable", "--now", unit)
        _put_back(os.path.join(UNITS, unit), adopted.get(unit, {}).get("copy", ""))
    remove(releases.link)
    run("systemctl", "daemon-reload")
    run("systemctl", "reset-failed", *units)
    for unit in reversed(units):
        theirs = adopted.get(unit, {})
        for verb, wanted in (("enable", "enabled"), ("start", "active")):
            if theirs.get(wanted):
                run("systemctl", verb, unit)


def _put_back(path, copy):
    # type: (str, str) -> None
    """Remove a file of ours, or put back what it replaced, which an earlier try may have done."""
    if copy and os.path.lexists(copy):
        os.replace(copy, path)
    elif not copy:
        remove(path)


def remove_empty(folders):
    # type: (list) -> None
    """Remove folders that are empty, those below others first."""
    for path in sorted(folders, key=len, reverse=True):
        with contextlib.suppress(OSError):
            os.rmdir(path)


def forget(record):
    # type: (str) -> None
    """Remove the record of what is ours, and the folders of records where it was the last."""
    remove(record)
    folder = os.path.dirname(record)
    for path in (folder, os.path.dirname(folder)):
        with contextlib.suppress(OSError):
            os.rmdir(path)


def main(path):
    # type: (str) -> int
    """Do the job of a file and leave its result beside it."""
    job = read_json(path)
    result = {"id": job["id"], "release": job["release"], "msg": "", "choice": {}}
    try:
        result["choice"] = Job(job, path).perform()
    except Fault as fault:
        result["msg"] = str(fault)
    except Exception as error:
        result["msg"] = "Release %s on %s: %r" % (job["release"], job["host"], error)
    step("write the result")
    write(os.path.join(os.path.dirname(path), "result.json"), json.dumps(result), 0o600)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
