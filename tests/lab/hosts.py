# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make and remove Debian and Ubuntu hosts that boot systemd, run in podman and answer ssh.

They share the kernel of this machine, so BPF programs in them see real events.
Every lab has a folder of its own below .lab/ with its key, known hosts and
inventory; containers carry the checkout's path as a label, so labs of two
checkouts never meet and those of a removed checkout are cleaned up.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from . import ubuntu

CHECKOUT = Path(__file__).resolve().parents[2]
IMAGE = "localhost/linmonitor-lab"
LABEL_CHECKOUT = "linmonitor.checkout"
LABEL_LAB = "linmonitor.lab"
PACKAGES = (
    "systemd,systemd-sysv,dbus,python3,ca-certificates,iproute2,procps,openssh-server,apt-utils"
)
CGROUP_V2 = Path("/sys/fs/cgroup/cgroup.controllers")
BOOT_SECONDS = 300
REMOVE_ATTEMPTS = 4
# Where version 1 has the controllers, each container has a group of version 2 too, its own.
HYBRID = Path("/sys/fs/cgroup/unified")
INIT_ON_CGROUP_V2 = """
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec /sbin/init
"""
WANTS_CGROUP_V2 = 258  # of systemd's versions, the first
THESE_WANT_CGROUP_V2 = ("resolute",)
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INSTANCES = 7  # of inotify that a host takes
EXTRA_CA = Path("/usr/local/share/ca-certificates")
# runc: crun refuses the hybrid cgroup layout that many hosts still have.
RUN = (
    "podman", "run", "--runtime", "runc",
    "--ulimit=nofile=20000:20000", "--ulimit=nproc=20000:20000",
)  # fmt: skip


class LabError(RuntimeError):
    """A lab could not be made; the message names the command that failed."""


def run(*command: str, stdin: str | None = None) -> str:
    """Return a command's standard output, or raise LabError with its last lines."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise LabError(f"{' '.join(command)} ended with {done.returncode}:\n{tail}")
    return done.stdout


@dataclass(frozen=True)
class Lab:
    """A named group of test hosts that belongs to this checkout."""

    name: str

    @property
    def folder(self) -> Path:
        """Key, known hosts and inventory of this lab."""
        return CHECKOUT / ".lab" / self.name

    @property
    def inventory(self) -> Path:
        """The inventory file that `up` writes."""
        return self.folder / "inventory.yml"

    def container(self, host: str) -> str:
        """Name of the container that is this host."""
        digest = hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:6]
        return f"linmonitor-{digest}-{self.name}-{host}"

    def containers(self) -> list[str]:
        """Names of this lab's containers, running or not."""
        listed = run(
            "podman", "ps", "-a", "--format", "{{.Names}}",
            "--filter", f"label={LABEL_CHECKOUT}={CHECKOUT}",
            "--filter", f"label={LABEL_LAB}={self.name}",
        )  # fmt: skip
        return listed.split()

    def down(self) -> None:
        """Remove the hosts and the folder of this lab; both may be absent."""
        if names := self.containers():
            remove(*names)
        shutil.rmtree(self.folder, ignore_errors=True)

    def up(self, hosts: dict[str, str], groups: dict[str, list[str]]) -> Path:
        """Boot `hosts` ({name: suite}) afresh and return their inventory file."""
        require_root()
        remove_abandoned()
        self.down()
        self.folder.mkdir(parents=True, mode=0o700)
        key = self.folder / "id_ed25519"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "linmonitor-lab", "-f", str(key))
        for suite in set(hosts.values()):
            build_image(suite)
        for host, suite in hosts.items():
            self._start(host, suite)
        for host in hosts:
            self._let_in(host)
        addresses = {host: self.address(host) for host in hosts}
        known = "".join(self._host_key(host, addresses[host]) for host in hosts)
        (self.folder / "known_hosts").write_text(known)
        self.inventory.write_text(yaml.safe_dump(self._inventory(addresses, groups)))
        return self.inventory

    def start_again(self, host: str) -> None:
        """Boot a host that was killed; it may have another address then."""
        before = yaml.safe_load(self.inventory.read_text())["all"]["hosts"][host]["ansible_host"]
        run("podman", "start", self.container(host))
        self._wait_for_boot(host)
        for file in (self.inventory, self.folder / "known_hosts"):
            text = re.sub(rf"\b{re.escape(before)}\b", self.address(host), file.read_text())
            file.write_text(text)

    def _start(self, host: str, suite: str) -> None:
        options, init = [], ["/sbin/init"]
        if suite in THESE_WANT_CGROUP_V2 and HYBRID.exists():
            options, init = ["--cgroupns=private"], ["sh", "-c", INIT_ON_CGROUP_V2]
        run(
            *RUN, "--detach", "--systemd=always", "--privileged", *options,
            "--name", self.container(host), "--hostname", host,
            "--label", f"{LABEL_CHECKOUT}={CHECKOUT}", "--label", f"{LABEL_LAB}={self.name}",
            image_tag(suite), *init,
        )  # fmt: skip

    def _wait_for_boot(self, host: str) -> None:
        name = self.container(host)
        deadline = time.monotonic() + BOOT_SECONDS
        state = ""
        while state not in ("running", "degraded"):
            if time.monotonic() > deadline:
                raise LabError(f"{name} did not boot in {BOOT_SECONDS} s (state: {state!r})")
            time.sleep(0.3)
            asked = subprocess.run(
                ["podman", "exec", name, "systemctl", "is-system-running"],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            state = asked.stdout.strip()
            if "container state improper" in asked.stderr:
                raise LabError(f"host {host} ended instead of booting; {self._why_it_ended(name)}")

    def _why_it_ended(self, container: str) -> str:
        """Say what kept systemd from booting, which has no console there to say it itself."""
        image = run("podman", "inspect", "--format", "{{.ImageName}}", container).strip()
        ask = ("dpkg-query", "--show", "--showformat=${Version}", "systemd")
        version = int(re.split(r"\D", run(*RUN, "--rm", image, *ask), maxsplit=1)[0])
        if version >= WANTS_CGROUP_V2 and not CGROUP_V2.exists():
            return f"systemd from {WANTS_CGROUP_V2} on wants cgroup v2, and this machine has v1"
        limit = INOTIFY.read_text().strip()
        return f"each takes {INSTANCES} of the {limit} in fs.inotify.max_user_instances"

    def _let_in(self, host: str) -> None:
        name = self.container(host)
        self._wait_for_boot(host)
        public_key = (self.folder / "id_ed25519.pub").read_text()
        install = "install -d -m 0700 ~/.ssh && cat > ~/.ssh/authorized_keys"
        run("podman", "exec", "-i", name, "sh", "-c", install, stdin=public_key)

    def address(self, host: str) -> str:
        """Return the address of a host."""
        inspected = json.loads(run("podman", "inspect", self.container(host)))[0]
        return inspected["NetworkSettings"]["Networks"]["podman"]["IPAddress"]

    def _host_key(self, host: str, address: str) -> str:
        key = run(
            "podman", "exec", self.container(host), "cat", "/etc/ssh/ssh_host_ed25519_key.pub"
        )
        return f"{address} {' '.join(key.split()[:2])}\n"

    def _inventory(self, addresses: dict[str, str], groups: dict[str, list[str]]) -> dict:
        ssh_args = f"-o UserKnownHostsFile={self.folder}/known_hosts -o IdentitiesOnly=yes"
        return {
            "all": {
                "vars": {
                    "ansible_user": "root",
                    "ansible_ssh_private_key_file": str(self.folder / "id_ed25519"),
                    "ansible_ssh_common_args": ssh_args,
                },
                "hosts": {host: {"ansible_host": ip} for host, ip in addresses.items()},
                "children": {
                    group: {"hosts": dict.fromkeys(members)} for group, members in groups.items()
                },
            }
        }


def remove(*containers: str) -> None:
    """Remove containers, again where a busy machine makes podman's wait for one too short."""
    for attempt in range(1, REMOVE_ATTEMPTS + 1):
        try:
            run("podman", "rm", "--force", "--ignore", "--time", "2", "--volumes", *containers)
            return
        except LabError:
            if attempt == REMOVE_ATTEMPTS:
                raise
            time.sleep(attempt)


def require_root() -> None:
    """Refuse with a readable message: the hosts must be able to load BPF programs."""
    if subprocess.run(["id", "-u"], capture_output=True, text=True, check=True).stdout != "0\n":
        raise LabError("Test hosts load BPF programs, so they need root: run it again with sudo.")


def remove_abandoned() -> None:
    """Remove lab hosts whose checkout no longer exists."""
    for container in json.loads(run("podman", "ps", "-a", "--format", "json")):
        checkout = (container.get("Labels") or {}).get(LABEL_CHECKOUT)
        if checkout and not Path(checkout).exists():
            remove(container["Id"])


def image_tag(suite: str) -> str:
    """Name of the image; it changes with everything that the image is made from."""
    recipe = hashlib.sha256(PACKAGES.encode())
    for certificate in sorted(EXTRA_CA.glob("*.crt")):
        recipe.update(certificate.read_bytes())
    return f"{IMAGE}:{suite}-{recipe.hexdigest()[:12]}"


def archive(suite: str, scratch: Path) -> list[str]:
    """Return what mmdebstrap is told of a suite's archive beside its name."""
    if suite not in ubuntu.SUITES:
        return []
    try:
        kept = ubuntu.keyring()
    except (RuntimeError, LookupError) as error:
        raise LabError(f"no keys of Ubuntu's archive: {error}") from error
    # Whom apt reads keys as may not read the cache.
    scratch.chmod(0o755)
    keyring = shutil.copy(kept, scratch)
    return [f"--keyring={keyring}", "--components=main,universe"]


def build_image(suite: str) -> None:
    """Make the base image of a suite from its distribution's archive, once."""
    tag = image_tag(suite)
    exists = subprocess.run(["podman", "image", "exists", tag], check=False).returncode == 0
    if exists:
        return
    print(f"lab: making the {suite} image from its archive (about 30 s)", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        tarball = Path(scratch) / "root.tar"
        run(
            "mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}",
            *archive(suite, Path(scratch)),
            # Companies with an inspecting proxy have certificates of their own.
            f'--customize-hook=cp {EXTRA_CA}/*.crt "$1{EXTRA_CA}/" 2>/dev/null || true',
            '--customize-hook=chroot "$1" update-ca-certificates',
            suite, str(tarball),
        )  # fmt: skip
        if not tarfile.is_tarfile(tarball):
            raise LabError(f"mmdebstrap made no root file system of {suite}")
        run("podman", "import", "--quiet", str(tarball), tag)


def parse_groups(specs: list[str]) -> dict[str, list[str]]:
    """Read `group=host,host` specifications."""
    return {group: hosts.split(",") for group, _, hosts in (spec.partition("=") for spec in specs)}


def main() -> int:
    """Command line: `up LAB host=suite … --group name=host,…` and `down LAB`."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.hosts", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="boot hosts afresh and print their inventory file")
    up.add_argument("lab")
    up.add_argument("hosts", nargs="+", metavar="host=suite")
    up.add_argument("--group", action="append", default=[], metavar="group=host,host")
    down = verbs.add_parser("down", help="remove a lab's hosts")
    down.add_argument("lab")
    arguments = parser.parse_args()
    lab = Lab(arguments.lab)
    try:
        if arguments.verb == "down":
            lab.down()
        else:
            hosts = dict(spec.split("=", 1) for spec in arguments.hosts)
            print(lab.up(hosts, parse_groups(arguments.group)))
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
