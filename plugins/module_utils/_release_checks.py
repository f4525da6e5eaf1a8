# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps a release from running on a host, found before anything changes."""

from __future__ import annotations

import os
import pwd
import re
from typing import Any, Dict, Iterator, List, Set, Tuple

from ansible_collections.linmonitor.stack.plugins.module_utils import (
    _host,
    _kernel,
    _listening,
    _owned,
    _places,
    _program,
    _release,
)
from ansible_collections.linmonitor.stack.plugins.module_utils._release import (
    INSTALLED,
    NAME,
    SOCKET,
    TRIAL_UNIT,
    UNIT,
    Fault,
    Releases,
    read,
)

ROOT = "/"
NEEDED_BYTES = 200_000_000  # two releases, one of them being unpacked
MEGABYTE = 1_000_000
SETTINGS = {
    "configs": list,
    "strict": bool,
    "current": str,
    "listen_address": str,
    "url": str,
    "capabilities": list,
}
BTF = "/sys/kernel/btf/vmlinux"
# A unit names it, so nothing that systemd would read as something else.
PLAIN_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[\w.+@-]+)+$")


def refuse_user(host: str) -> None:
    """Refuse to go on without root."""
    if os.geteuid() != 0:
        raise Fault(
            f"This role needs become: true. On {host} it has to be root, and it is "
            f"{pwd.getpwuid(os.geteuid()).pw_name}: set become: true for the play or the role, or "
            "log in as root."
        )


def refuse_host(host: str, architecture: str) -> None:
    """Refuse a host that the service cannot run on at all."""
    about = _kernel.os_release(ROOT)
    machine = _kernel.machine(ROOT)
    systemd = _kernel.under(ROOT, "/run/systemd/system").is_dir()
    if not (_host.described(about) and systemd and machine == architecture):
        raise Fault(
            f"{host} is {about.get('PRETTY_NAME', 'of an unknown system')} "
            f"{'with' if systemd else 'without'} systemd on {machine}. This needs {_host.WANTED}, "
            f"with systemd, on {architecture}; the last is ebpf_exporter_architecture. Nothing was "
            "changed."
        )
    if not _kernel.under(ROOT, BTF).exists():
        raise Fault(
            f"Kernel {_kernel.release(ROOT)} of {host} has no {BTF}, by which the programs find "
            "the kernel's fields. Boot a kernel with CONFIG_DEBUG_INFO_BTF=y: Debian's since 5.10 "
            "and Ubuntu's since 20.10 have it."
        )


def refuse_place(host: str, releases: Releases) -> None:
    """Refuse a folder from which the service cannot run a program, and something in our place."""
    root = releases.root
    if not PLAIN_PATH.match(root):
        raise Fault(
            f"ebpf_exporter_root of {host} is {root}. It must be an absolute path of letters, "
            "digits and _.+@- without a slash at its end, for example /opt/linmonitor, because "
            "systemd reads it."
        )
    fault = _places.fault_of_tree(releases.folder, set())
    if fault:
        raise Fault(
            f"ebpf_exporter_root of {host} is {root}: {releases.folder} {fault}. Name another "
            "folder, for example /opt/linmonitor or one below /srv or /var/lib."
        )
    if os.path.lexists(releases.link) and not os.path.islink(releases.link):
        raise Fault(
            f"{releases.link} of {host} is there and not ours. Move it away, or name another "
            "folder in ebpf_exporter_root."
        )


def refuse_full_disk(host: str, releases: Releases) -> None:
    """Refuse a file system without room for another release."""
    place = releases.folder
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    about = os.statvfs(place)
    free = about.f_bavail * about.f_frsize
    if free < NEEDED_BYTES:
        raise Fault(
            f"No space left on device for a release: {host} has {free // MEGABYTE} MB free for "
            f"{releases.root}, but a release needs {NEEDED_BYTES // MEGABYTE} MB. Make room, or "
            "name another folder in ebpf_exporter_root."
        )


def refuse_port(host: str, address: str) -> None:
    """Refuse an address at which another program listens; our own service makes room for itself."""
    sockets = _listening.listening_sockets(address)
    if not sockets:
        return
    holders = list(_holders(sockets, address))
    others = [f"{name} ({what})" for name, what, unit in holders if unit not in INSTALLED]
    if others or not holders:
        holder = _owned.some(others) if others else "one that cannot be seen"
        raise Fault(
            f"Port {address} of {host} is taken by another program: {holder}. Stop it, or set "
            "ebpf_exporter_listen_address."
        )


def _holders(sockets: Set[str], address: str) -> Iterator[Tuple[str, str, str]]:
    """Name the programs that hold sockets at an address: which, what of it, and its unit."""
    for name, process, unit in _listening.programs(sockets):
        if process != 1:
            yield name, f"process {process}{' of ' + unit if unit else ''}", unit
            continue
        # systemd holds those of its socket units.
        for listener in _socket_units(address.rpartition(":")[2]) or [unit]:
            yield name, listener, listener


def _socket_units(port: str) -> List[str]:
    """Return the units for which systemd listens at a port."""
    _status, said = _release.run("systemctl", "list-sockets", "--no-legend", "--full")
    rows = [line.split() for line in said.splitlines()]
    return [row[1] for row in rows if len(row) > 1 and row[0].rpartition(":")[2] == port]


def unit_is_ours(releases: Releases, unit: str) -> bool:
    """Say whether a unit that is installed is ours; one of a release is, whatever its comments."""
    installed = os.path.join(_release.UNITS, unit)
    said = read(installed)
    if unit == UNIT and f"\nExecStart={releases.folder}/" in "\n" + said:
        return True
    released = _release.meaning(read(os.path.join(releases.link, unit)))
    return _owned.marked(installed) or (bool(released) and _release.meaning(said) == released)


def refuse_unit(host: str, unit: str, found: List[str], adopt: bool) -> None:
    """Refuse to replace somebody else's unit, unless that is asked for and a copy can be kept."""
    own = os.path.join(_release.UNITS, unit)
    copy = own + _owned.COPY
    taken = os.path.lexists(copy) and not (os.path.lexists(own) and _owned.same(own, copy))
    if adopt and not taken:
        return
    way = f"{copy} is in the way of a copy: move it away."
    if not taken:
        way = (
            "Set ebpf_exporter_adopt to true to replace it; a copy is kept beside it and comes "
            "back at uninstall."
        )
    raise Fault(
        f"{host} has a unit {unit} that is not ours: {', '.join(found)}. Nothing was changed. {way}"
    )


def left_out(catalogue: Dict[str, Any], settings: Dict[str, Any]) -> Dict[str, str]:
    """Forecast which wanted programs this kernel cannot run, with the reasons."""
    kernel = _program.Kernel(ROOT, _kernel.release(ROOT) or "")
    ceiling = set(settings["capabilities"])
    found = {}
    for name in _program.wanted(catalogue, settings["configs"]):
        variants = catalogue["configs"][name]["variants"]
        reasons = [
            (one["name"], _program.forecast(one, kernel, ceiling).reasons) for one in variants
        ]
        if all(why for _variant, why in reasons):
            found[name] = " | ".join(f"{variant}: {'; '.join(why)}" for variant, why in reasons)
    return found


def refuse_kernel(host: str, manifest: Dict[str, Any], settings: Dict[str, Any]) -> None:
    """Refuse a kernel that, by the forecast, can run too little of what is wanted."""
    try:
        catalogue = _program.catalogue_of(manifest)
        _program.check(catalogue)
        lacking = left_out(catalogue, settings)
    except _program.CatalogueError as error:
        raise Fault(f"The artifact's manifest.json for {host}: {error}") from error
    if len(lacking) >= (1 if settings["strict"] else len(settings["configs"])):
        words = " ".join(f"{name} ({reason})" for name, reason in lacking.items())
        raise Fault(
            f"Kernel {_kernel.release(ROOT)} of {host} cannot run {words}. Want less in "
            "bpf_programs_enabled, allow more in ebpf_exporter_capabilities, or boot another "
            "kernel."
        )


def faults_of_arguments(arguments: Dict[str, Any]) -> Iterator[str]:
    """Name what a release cannot be made of."""
    if not NAME.match(arguments["release"]):
        yield f"release: {arguments['release']} is not of the form {NAME.pattern}"
    if arguments["keep_releases"] < 1:
        yield (
            f"keep_releases (ebpf_exporter_keep_releases) is {arguments['keep_releases']}: the "
            "running release is one of those that stay, so at least 1 is needed"
        )
    for name in (UNIT, SOCKET, TRIAL_UNIT):
        if not arguments["units"].get(name):
            yield f"units lacks {name}"
    for name, kind in SETTINGS.items():
        if not isinstance(arguments["settings"].get(name), kind):
            yield f"settings: {name} must be a {kind.__name__}"
