# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build apt repositories with the stand-in package, signed by keys made for one test run.

`python -m tests.grafana.repository FOLDER` leaves there:

    stable      editions and versions below, in the suites stable and beta
    foreign     the same, signed by another key
    expired     the same, signed by a key that is no longer valid
    unsigned    the same without a signature
    debs/       the packages as files
    keys.json   the fingerprint of each repository's key
    all.tar     the repositories in one file
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent / "standin"
PACKAGES = {
    "stable": [("grafana", "12.4.0"), ("grafana", "13.2.3"), ("grafana-enterprise", "13.2.3")],
    "beta": [("grafana-enterprise", "13.3.0~beta1")],
}
DEFAULTS = {
    "CONF_FILE": "/etc/grafana/grafana.ini",
    "DATA_DIR": "/var/lib/grafana",
    "PROVISIONING_CFG_DIR": "/etc/grafana/provisioning",
    "RESTART_ON_UPGRADE": "true",
}


UNIT = "usr/lib/systemd/system/grafana-server.service"
CONFFILES = ("etc/default/grafana-server", "etc/init.d/grafana-server", UNIT)
SAMPLES = ("access-control", "alerting", "dashboards", "datasources", "plugins")


def run(*command: str, stdin: bytes = b"", **environment: str) -> bytes:
    """Return a command's output; its error text goes to ours."""
    done = subprocess.run(
        command, input=stdin, check=True, stdout=subprocess.PIPE, env=os.environ | environment
    )
    return done.stdout


def build_package(folder: Path, name: str, version: str) -> Path:
    """Build one stand-in package; name and paths are Grafana's, the description says what it is."""
    other = "grafana" if name == "grafana-enterprise" else "grafana-enterprise"
    control = f"""\
        Package: {name}
        Version: {version}
        Architecture: all
        Maintainer: linmonitor.stack contributors <nobody@example.com>
        Depends: adduser, python3, python3-yaml
        Conflicts: {other}
        Description: STAND-IN for Grafana, for the tests of linmonitor.stack only
         This is not Grafana. It has its paths, user and unit and answers a part of its API.
        """
    files = {
        "DEBIAN/control": textwrap.dedent(control),
        "DEBIAN/conffiles": "".join(f"/{path}\n" for path in CONFFILES),
        "DEBIAN/postinst": (SOURCES / "postinst").read_text(),
        "etc/default/grafana-server": "".join(f"{k}={v}\n" for k, v in DEFAULTS.items()),
        "usr/share/grafana/VERSION": version.replace("~", "-") + "\n",
        "usr/share/grafana/bin/server.py": (SOURCES / "server.py").read_text(),
        "usr/share/grafana/conf/sample.ini": "; the stand-in's sample\n",
        "usr/share/grafana/conf/ldap.toml": '[[servers]]\nhost = "127.0.0.1"\n',
        "etc/init.d/grafana-server": (SOURCES / "init").read_text(),
        UNIT: (SOURCES / "grafana-server.service").read_text(),
    }
    for kind in SAMPLES:
        sample = f"usr/share/grafana/conf/provisioning/{kind}/sample.yaml"
        files[sample] = f"# the stand-in's sample of {version}\n"
    package = folder / f"{name}_{version}_all.deb"
    with tempfile.TemporaryDirectory() as scratch:
        for path, content in files.items():
            file = Path(scratch) / "root" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
            file.chmod(0o755 if content.startswith("#!") else 0o644)
        (Path(scratch) / "root/etc/grafana").mkdir(parents=True)
        root = str(Path(scratch) / "root")
        Path(root).chmod(0o755)
        run("dpkg-deb", "--root-owner-group", "-Zgzip", "--build", root, str(package))
    return package


@dataclass(frozen=True)
class Key:
    """A key made for one test run; `born` lets it be one that has expired."""

    home: str
    fingerprint: str
    born: str = ""

    @classmethod
    def make(cls, home: str, name: str, born: str = "", lifetime: str = "never") -> Key:
        """Generate the key."""
        faked = (f"--faked-system-time={born}!",) if born else ()
        gpg = ("gpg", "--homedir", home, "--batch", "--quiet", "--passphrase", "")
        run(*gpg, *faked, "--quick-generate-key", name, "rsa2048", "sign", lifetime)
        listed = run(*gpg, "--with-colons", "--list-keys", f"={name}").decode()
        line = next(line for line in listed.splitlines() if line.startswith("fpr"))
        return cls(home, line.split(":")[9], born)

    def public(self) -> bytes:
        """Return the armoured key as a repository offers it."""
        return run("gpg", "--homedir", self.home, "--armor", "--export", self.fingerprint)

    def clearsign(self, content: bytes) -> bytes:
        """Sign as InRelease."""
        faked = (f"--faked-system-time={self.born}!",) if self.born else ()
        gpg = ("gpg", "--homedir", self.home, "--batch", "--quiet", *faked)
        return run(*gpg, "--local-user", self.fingerprint, "--clearsign", stdin=content)


def sha256(content: bytes) -> str:
    """Return the hash as apt writes it."""
    return hashlib.sha256(content).hexdigest()


def build_suite(repository: Path, suite: str, packages: list[Path], key: Key | None) -> None:
    """Write the index and the signed release file of one suite."""
    stanzas = []
    for package in packages:
        shutil.copy(package, repository / "pool")
        content = package.read_bytes()
        fields = run("dpkg-deb", "--field", str(package)).decode()
        extra = f"Filename: pool/{package.name}\nSize: {len(content)}\nSHA256: {sha256(content)}\n"
        stanzas.append(fields + extra)
    index = "\n".join(stanzas).encode()
    dist = repository / "dists" / suite
    sums = ""
    for architecture in ("amd64", "arm64"):
        file = dist / f"main/binary-{architecture}/Packages"
        file.parent.mkdir(parents=True)
        file.write_bytes(index)
        sums += f" {sha256(index)} {len(index)} {file.relative_to(dist)}\n"
    date = time.strftime("%a, %d %b %Y %H:%M:%S UTC", time.gmtime())
    release = (
        f"Origin: stand-in\nSuite: {suite}\nCodename: {suite}\nDate: {date}\n"
        f"Architectures: amd64 arm64\nComponents: main\nSHA256:\n{sums}"
    ).encode()
    (dist / "Release").write_bytes(release)
    if key:
        (dist / "InRelease").write_bytes(key.clearsign(release))


def build(folder: Path) -> None:
    """Build everything afresh."""
    shutil.rmtree(folder, ignore_errors=True)
    debs = folder / "debs"
    debs.mkdir(parents=True)
    built = {
        suite: [build_package(debs, name, version) for name, version in packages]
        for suite, packages in PACKAGES.items()
    }
    with tempfile.TemporaryDirectory(prefix="gpg") as home:
        keys = {
            "stable": Key.make(home, "linmonitor test"),
            "foreign": Key.make(home, "linmonitor foreign"),
            "expired": Key.make(home, "linmonitor expired", "20200101T000000", "30d"),
        }
        for name, key in (keys | {"unsigned": None}).items():
            (folder / name / "pool").mkdir(parents=True)
            (folder / name / "gpg.key").write_bytes((key or keys["stable"]).public())
            for suite, packages in built.items():
                build_suite(folder / name, suite, packages, key)
        run("gpgconf", "--homedir", home, "--kill", "all")
    fingerprints = {name: key.fingerprint for name, key in keys.items()}
    (folder / "keys.json").write_text(json.dumps(fingerprints))
    with tarfile.open(folder / "all.tar", "w") as archive:
        for name in (*keys, "unsigned"):
            archive.add(folder / name, name)


def main() -> None:
    """Command line: the folder to build."""
    parser = argparse.ArgumentParser(prog="python -m tests.grafana.repository", description=__doc__)
    parser.add_argument("folder", type=Path)
    build(parser.parse_args().folder)


if __name__ == "__main__":
    main()
