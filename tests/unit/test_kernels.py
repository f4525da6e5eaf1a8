# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test kernels are found whatever the archive has today, and each program keeps a short case."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from tests.kernel import emulator, guest, kernels, matrix
from tests.lab import debian

SOURCES = Path(__file__).parents[2] / "files/bpf"
METRICS = {
    path.stem: {
        metric["name"]
        for kind in yaml.safe_load(path.read_text())["metrics"].values()
        for metric in kind
    }
    for path in SOURCES.rglob("*.yaml")
}
BULLSEYE = [
    "linux-image-5.10.0-30-amd64",
    "linux-image-5.10.0-46-amd64",
    "linux-image-5.10.0-46-rt-amd64",
    "linux-image-5.10.0-46-cloud-amd64",
    "linux-image-amd64",
    "linux-image-6.1.0-0.deb11.35-amd64",
]
TRIXIE = [
    "linux-image-6.12.118+deb13-amd64",
    "linux-image-6.12.118+deb13-cloud-amd64",
    "linux-image-6.12.117+deb13-rt-amd64",
    "linux-image-6.12.118+deb13-rt-amd64",
    "linux-image-rt-amd64",
]
SID = [
    "linux-image-7.2.9-amd64",
    "linux-image-7.3.1+deb14-amd64",
    "linux-binary-7.3.1+deb14-amd64",
    "linux-modules-7.3.1+deb14-amd64",
    "linux-image-7.3.1+deb14-cloud-amd64",
    "linux-image-amd64",
]

NOBLE = [
    "linux-image-6.8.0-152-generic",  # signed, and the rest of it is not there yet
    "linux-image-unsigned-6.8.0-31-generic",
    "linux-image-unsigned-6.8.0-151-generic",
    "linux-image-unsigned-6.8.0-151-lowlatency",
    "linux-modules-6.8.0-151-generic",
    "linux-modules-extra-6.8.0-151-generic",
    "linux-image-unsigned-6.17.0-40-generic",
    "linux-image-unsigned-7.0.0-9-generic",
    "linux-image-unsigned-7.0.0-44-generic",
    "linux-modules-7.0.0-44-generic",
    "linux-image-unsigned-7.1.0-1001-oem",
    "linux-image-generic-hwe-24.04",
]


def test_the_newest_build_of_a_series_is_taken():
    assert kernels.newest("5.10", BULLSEYE) == (
        "5.10.0-46-amd64", ["linux-image-5.10.0-46-amd64"]
    )  # fmt: skip


def test_cloud_and_real_time_kernels_are_others():
    release = "6.12.118+deb13-amd64"
    assert kernels.newest("6.12", TRIXIE) == (release, [f"linux-image-{release}"])


def test_a_flavour_of_a_series_is_asked_for_by_name():
    release = "6.12.118+deb13-rt-amd64"
    assert kernels.newest("6.12-rt", TRIXIE) == (release, [f"linux-image-{release}"])
    old = "5.10.0-46-cloud-amd64"
    assert kernels.newest("5.10-cloud", BULLSEYE) == (old, [f"linux-image-{old}"])


def test_the_suite_that_moves_on_is_asked_for_what_it_has():
    release, packages = kernels.newest(kernels.NEWEST, SID)
    assert release == "7.3.1+deb14-amd64"
    assert packages == [f"linux-{part}-{release}" for part in ("image", "binary", "modules")]


@pytest.mark.parametrize(
    ("series", "release", "parts"),
    [
        ("ubuntu-6.8", "6.8.0-151-generic", ("image-unsigned", "modules", "modules-extra")),
        (kernels.HWE, "7.0.0-44-generic", ("image-unsigned", "modules")),
    ],
)
def test_ubuntus_generic_kernels_are_found(series, release, parts):
    found = kernels.newest(series, NOBLE)
    assert found == (release, [f"linux-{part}-{release}" for part in parts])


@pytest.mark.parametrize(
    ("series", "names", "said"),
    [
        ("6.12", ["linux-image-amd64"], r"no kernel 6\.12 in trixie"),
        ("6.12", SID, r"no kernel 6\.12 in trixie"),
        ("ubuntu-5.15", NOBLE, r"no kernel ubuntu-5\.15 in jammy"),
        ("6.12", [], "the archive does not answer"),
    ],
)
def test_a_series_that_is_gone_is_named(series, names, said):
    with pytest.raises(kernels.NotInArchive, match=said):
        kernels.newest(series, names)


@pytest.fixture
def gone(monkeypatch, tmp_path):
    """An archive without any kernel, and an empty cache below tmp_path."""
    monkeypatch.setattr(kernels, "cache", lambda: tmp_path)
    monkeypatch.setattr(debian, "mirrors", lambda: {False: "archive", True: "security"})
    monkeypatch.setattr(debian.Archive, "apt", lambda *_arguments: "linux-image-amd64\n")
    return tmp_path


def test_each_architecture_has_kernels_of_its_own():
    release = "6.12.118+deb13-arm64"
    names = [*TRIXIE, f"linux-image-{release}", f"linux-image-{release}-16k"]
    assert kernels.newest("6.12", names, "arm64") == (release, [f"linux-image-{release}"])
    assert kernels.newest("6.12", names)[0] == "6.12.118+deb13-amd64"


def test_a_series_that_is_gone_comes_from_the_cache(gone, capsys):
    (gone / "6.1" / "6.1.9-amd64" / "lib/modules/6.1.9-amd64").mkdir(parents=True)
    kept = gone / "6.1" / "newest"
    kept.write_text("6.1.9-amd64")
    os.utime(kept, (0, 0))
    assert kernels.fetch("6.1").release == "6.1.9-amd64"
    assert "using the cached image" in capsys.readouterr().err


def test_the_matrix_names_what_it_could_not_run(gone, monkeypatch, capsys):
    def run_kernel(series, *_arguments):
        if series != matrix.LIVE:
            kernels.fetch(series)
        row = {"metric": "m", "case": "c", "variant": "v", "truth": 1, "measured": 1}
        row |= {"is_timing": False, "skipped": 0, "passed": True}
        return {"kernel": series, "rows": [row], "disturbed": [], "errors": []}

    (gone / "manifest.json").write_text('{"arch": "x86_64"}')
    monkeypatch.setattr(matrix, "check_tools", lambda architecture: None)
    monkeypatch.setattr(matrix, "stage", lambda *_arguments: None)
    monkeypatch.setattr(matrix, "run_kernel", run_kernel)
    monkeypatch.setattr("sys.argv", ["matrix", "--artifact", str(gone), "--short"])
    with pytest.raises(SystemExit) as ended:
        matrix.main()
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    oldest = next(iter(kernels.SUITES))
    for series in (oldest, kernels.NEWEST):
        assert f"{series}: not run, the archive has no kernel {series}" in shown
    assert "1 kernels\n1 passed, 0 failed" in shown


def test_the_artifact_says_on_which_kernels_it_runs(gone, monkeypatch, capsys):
    def run_kernel(series, _work, _guest, _at_once, architecture):
        row = {"metric": "m", "case": "c", "variant": "v", "truth": 1, "measured": 1}
        row |= {"is_timing": False, "skipped": 0, "passed": True}
        return {"kernel": f"{series} {architecture}", "rows": [row], "disturbed": [], "errors": []}

    (gone / "manifest.json").write_text('{"arch": "aarch64"}')
    monkeypatch.setattr(matrix, "check_tools", lambda architecture: None)
    monkeypatch.setattr(matrix, "stage", lambda *_arguments: None)
    monkeypatch.setattr(matrix, "run_kernel", run_kernel)
    monkeypatch.setattr(matrix.arm64, "root", lambda: None)
    monkeypatch.setitem(matrix.DOCS, "aarch64", gone / "page.md")
    monkeypatch.setattr(matrix.platform, "machine", lambda: "x86_64")
    for more, status in (["--write-docs"], 0), (["--kernel", matrix.LIVE], 2), (["--others"], 2):
        monkeypatch.setattr("sys.argv", ["matrix", "--artifact", str(gone), *more])
        with pytest.raises(SystemExit) as ended:
            matrix.main()
        assert ended.value.code == status
    assert "2 passed, 0 failed" in capsys.readouterr().out
    page = (gone / "page.md").read_text()
    assert "2 rows are right, 0 are not." in page
    assert "| 6.1 aarch64 | m | c | v | 1 | 1 | 0 |\n| 6.12 aarch64 |" in page


def test_other_kernels_have_a_page_of_their_own_which_names_what_did_not_run(
    gone, monkeypatch, capsys
):
    def run_kernel(series, *_arguments):
        if series.startswith(kernels.UBUNTU):
            kernels.fetch(series)
        row = {"metric": "m", "case": "c", "variant": "v", "truth": 1, "measured": 1}
        row |= {"is_timing": False, "skipped": 0, "passed": True}
        return {"kernel": series, "rows": [row], "disturbed": [], "errors": []}

    def silent(*_arguments):
        raise RuntimeError("apt-get update: no route")

    (gone / "manifest.json").write_text('{"arch": "x86_64"}')
    monkeypatch.setattr(matrix, "check_tools", lambda architecture: None)
    monkeypatch.setattr(matrix, "stage", lambda *_arguments: None)
    monkeypatch.setattr(matrix, "run_kernel", run_kernel)
    monkeypatch.setattr(kernels.ubuntu.Archive, "sources", lambda self: [])
    monkeypatch.setattr(debian.Archive, "apt", silent)
    monkeypatch.setitem(matrix.DOCS, matrix.OTHERS, gone / "page.md")
    monkeypatch.setattr("sys.argv", ["matrix", "--artifact", str(gone), "--others", "--write-docs"])
    with pytest.raises(SystemExit) as ended:
        matrix.main()
    assert ended.value.code == 0
    assert "1 kernels\n1 passed, 0 failed" in capsys.readouterr().out
    page = (gone / "page.md").read_text()
    assert "1 rows are right, 0 are not." in page
    assert "| 6.12-cloud | m | c | v | 1 | 1 | 0 |" in page
    for series in kernels.OTHERS:
        silence = f"\n- {series}: not run, apt-get update: no route\n"
        assert (silence in page) == series.startswith(kernels.UBUNTU)


def test_a_page_names_the_kernels_on_which_not_all_ran(monkeypatch, tmp_path):
    monkeypatch.setitem(matrix.DOCS, matrix.OTHERS, tmp_path / "page.md")
    results = [
        {"kernel": kernel, "rows": [], "disturbed": [], "errors": errors}
        for kernel, errors in (("6.8", [matrix.UNFINISHED, "console"]), ("7.0", []))
    ]
    matrix.write_docs(matrix.OTHERS, results, ["5.15: not run, gone"])
    page = (tmp_path / "page.md").read_text()
    assert page.endswith("\n\n- 5.15: not run, gone\n- 6.8: not all ran\n")


@pytest.mark.parametrize("has_9p", [True, False])
def test_a_kernel_without_9p_gets_its_folders_another_way(monkeypatch, tmp_path, has_9p):
    said = []
    release = "6.12.1-cloud-amd64"
    modules = tmp_path / "root/lib/modules" / release / "kernel/fs/9p"
    modules.mkdir(parents=True)
    if has_9p:
        (modules / "9p.ko.xz").touch()
    monkeypatch.setattr(kernels, "MODULES", tmp_path / "modules")
    monkeypatch.setattr(kernels, "cache", lambda: tmp_path)
    monkeypatch.setattr(emulator.Archive, "__init__", lambda self, suites, folder: None)
    monkeypatch.setattr(emulator.Archive, "names", lambda self, prefix: [])
    monkeypatch.setattr(emulator.Archive, "unpack", lambda self, names, folder: folder.mkdir())
    monkeypatch.setattr(
        kernels.subprocess, "Popen", lambda command, **options: said.append(options["env"]["PATH"])
    )
    kernels.BootImage(tmp_path / "root").boot(tmp_path / "script", tmp_path / "log")
    sharer = tmp_path / "virtiofsd/bin"
    assert said[0].startswith(f"{sharer}:") != has_9p
    assert os.access(sharer / "virtiofsd", os.X_OK) != has_9p


def test_ubuntus_archive_is_where_mmdebstrap_says_with_keys_of_ubuntus_own(monkeypatch, tmp_path):
    def listed(*command):
        *_, suite, root = command
        (Path(root) / "etc/apt").mkdir(parents=True)
        lines = f"deb archive {suite} main\ndeb [signed-by=x] security {suite}-security main\n"
        (Path(root) / "etc/apt/sources.list").write_text(lines)

    keys = tmp_path / "ubuntu.gpg"
    keys.touch()
    monkeypatch.setattr(kernels.ubuntu, "KEYRING", keys)
    monkeypatch.setattr(debian, "run", listed)
    kernels.ubuntu.Archive(["noble"], tmp_path / "apt")
    options = f"[arch=amd64 signed-by={keys}]"
    assert (tmp_path / "apt/etc/sources.list").read_text() == (
        f"deb {options} archive noble main\ndeb {options} security noble-security main\n"
    )


@pytest.mark.parametrize("kind", ["VM", "LIVE"])
def test_short_runs_one_case_for_each_program(kind):
    cases = [case for part in guest.PARTS for case in getattr(part, kind)]
    chosen = guest.short(cases, METRICS)
    assert 0 < len(chosen) < len(cases)
    proved = {metric for case in chosen for metric in case.proves}
    assert "forecast" in proved
    if kind == "VM":
        assert all(names & proved for names in METRICS.values())


@pytest.mark.parametrize(
    ("said", "known"), [("8.0.4 (Debian)", False), ("8.1.0", True), ("10.0.2", True)]
)
def test_a_qemu_that_is_too_old_gives_way_to_a_newer_one(monkeypatch, tmp_path, said, known):
    fetched = []
    monkeypatch.setattr(emulator.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(emulator, "run", lambda *command: f"QEMU emulator version {said}\n")
    monkeypatch.setattr(emulator.Archive, "__init__", lambda self, suites, folder: None)
    monkeypatch.setattr(emulator.Archive, "names", lambda self, prefix: [])

    def unpack(self, packages, folder):
        folder.mkdir(parents=True)
        fetched.append(folder)

    monkeypatch.setattr(emulator.Archive, "unpack", unpack)
    for _ in range(2):  # the second time it is in the cache
        program = emulator.at_once(tmp_path)[1]
    assert program.startswith("/usr/bin/") == known
    assert len(fetched) == (not known)


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ([], "x86_64"),
        (["--kernel", "5.10"], "x86_64"),
        (["--others"], matrix.OTHERS),
        (["--kernel", "ubuntu-6.8"], matrix.OTHERS),
        (["--kernel", "5.10", "--kernel", "ubuntu-6.8"], None),
        (["--others", "--kernel", "5.10"], None),
    ],
)
def test_a_page_is_written_of_its_own_kernels_alone(words, page, monkeypatch, tmp_path, capsys):
    (tmp_path / "manifest.json").write_text('{"arch": "x86_64"}')
    command = ["matrix", "--artifact", str(tmp_path), "--write-docs", *words]
    monkeypatch.setattr("sys.argv", command)
    if page:
        assert matrix.command_line().page == page
        return
    with pytest.raises(SystemExit):
        matrix.command_line()
    assert "has another" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["", "http://mirror.example/"])
def test_a_machine_whose_apt_knows_no_debian_is_told_how_to_name_an_archive(given, monkeypatch):
    monkeypatch.setattr(debian, "run", lambda *_command: "Ubuntu http://ubuntu.example\n")
    monkeypatch.setenv(debian.MIRROR, given)
    if given:
        security = "http://mirror.example/debian-security"
        assert debian.mirrors() == {False: "http://mirror.example/debian", True: security}
        return
    with pytest.raises(RuntimeError, match=f"set {debian.MIRROR} to"):
        debian.mirrors()
