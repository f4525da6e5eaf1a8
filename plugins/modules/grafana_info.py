#!/usr/bin/python
# Copyright: linmonitor.stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: grafana_info
short_description: Say which Grafana a host has, whether it is well, and which datasources it knows
version_added: 1.0.0
description:
  - Reads the unit, its environment, the settings and the database, and asks a Grafana that runs how
    it is; changes nothing and logs in nowhere. No value that could be a secret is returned.
  - Settings are looked up as Grafana does. Arguments C(cfg:) of the unit win over variables C(GF_)
    of its environment, these over the settings' file, and that over arguments C(cfg:default.).
author:
  - The linmonitor.stack maintainers (@linmonitor)
attributes:
  check_mode:
    support: full
    description: It only looks.
  diff_mode:
    support: N/A
    description: It changes nothing.
options:
  wait_seconds:
    description: >-
      How long to wait for a unit that starts, until it is RV(healthy) or RV(given_up). One with
      another answer than that, or without RV(url), is not waited for.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Ask which Grafana is there
  linmonitor.stack.grafana_info:
  register: grafana

- name: Wait for one that was just started
  linmonitor.stack.grafana_info:
    wait_seconds: 60
  register: started
  failed_when: not started.healthy

- name: Show which datasources are the default of their organisation
  ansible.builtin.debug:
    msg: "{{ grafana.datasources | selectattr('is_default') | map(attribute='name') }}"
"""

RETURN = r"""
package:
  description: The installed package; name and version are empty where there is none.
  returned: always
  type: dict
  contains:
    name:
      description: grafana or grafana-enterprise.
      type: str
    version:
      description: Its version.
      type: str
    held:
      description: Whether its owner holds it, as C(apt-mark hold) does.
      type: bool
  sample: {name: grafana, version: 12.4.0, held: false}
present:
  description: Whether there is a package, or a unit of that name from elsewhere.
  returned: always
  type: bool
left:
  description: Settings and database that an earlier Grafana left where packages keep them.
  returned: always
  type: list
  elements: str
  sample: [/etc/grafana/grafana.ini]
active:
  description: Whether the unit runs.
  returned: always
  type: bool
given_up:
  description: >-
    Whether systemd has given it up, or started it again and again during the wait, as it does
    without an end where no limit is set, or where it takes longer to fail than systemd counts.
  returned: always
  type: bool
healthy:
  description: Whether it answers at RV(url) that its database is well.
  returned: always
  type: bool
answers_version:
  description: The version that it says it is; empty where it does not answer.
  returned: always
  type: str
process:
  description: Number of its process; 0 where none runs.
  returned: always
  type: int
enabled:
  description: Whether the unit starts at boot.
  returned: always
  type: bool
user:
  description: Who runs it.
  returned: always
  type: str
group:
  description: The group that may read its settings.
  returned: always
  type: str
config:
  description: The file with its settings.
  returned: always
  type: str
provisioning:
  description: The folder whose files Grafana reads at its start.
  returned: always
  type: str
database:
  description: The SQLite database; empty where another kind is used.
  returned: always
  type: str
listen:
  description: Address and port of its listener; empty for a socket.
  returned: always
  type: str
url:
  description: Where it answers on this host; empty for a socket.
  returned: always
  type: str
datasources:
  description: What the database knows.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    uid:
      description: Its uid.
      type: str
    org_id:
      description: Its organisation.
      type: int
    is_default:
      description: Whether it is the default there.
      type: bool
    read_only:
      description: Whether it was provisioned and cannot be edited.
      type: bool
datasources_known:
  description: >-
    Whether the list is whole. It is not where the database cannot be read here; a database that
    does not exist yet is a known empty one.
  returned: always
  type: bool
"""

import http.client
import json
import os
import sqlite3
import ssl
import time
import urllib.request

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.linmonitor.stack.plugins.module_utils import _grafana

PACKAGES = ("grafana", "grafana-enterprise")
PROPERTIES = (
    "LoadState", "ActiveState", "MainPID", "NRestarts", "UnitFileState", "User", "Group",
    "Environment", "EnvironmentFiles", "ExecStart", "WorkingDirectory",
)  # fmt: skip
# Starts by systemd itself without anybody's doing, after which it is not worth to wait longer.
RESTARTS = 4
ANSWER_SECONDS = 5
PAUSE_SECONDS = 0.5
UNIT = "grafana-server.service"
# What the unit of the packages passes, for a host that has none yet.
PACKAGED = {
    "User": "grafana",
    "Group": "grafana",
    "ExecStart": "argv[]=grafana cfg:default.paths.data=/var/lib/grafana "
    "cfg:default.paths.provisioning=/etc/grafana/provisioning ; ignore_errors=no",
}
LEFT = (_grafana.CONFIG, "/var/lib/grafana/grafana.db")
QUERY = "SELECT name, uid, org_id, is_default, read_only FROM data_source ORDER BY org_id, name"


def datasources(database):
    # type: (str) -> tuple
    """Return the datasources of a database, and whether that is all of them."""
    if not database:
        return [], False
    if not os.path.exists(database):
        return [], True
    try:
        connection = sqlite3.connect("file:%s?mode=ro" % database, uri=True, timeout=5)
        try:
            rows = connection.execute(QUERY).fetchall()
        finally:
            connection.close()
    except sqlite3.Error:
        return [], False
    names = ("name", "uid", "org_id", "is_default", "read_only")
    found = [dict(zip(names, row)) for row in rows]
    for source in found:
        source.update(is_default=bool(source["is_default"]), read_only=bool(source["read_only"]))
    return found, True


def health(url):
    # type: (str) -> dict
    """Return what Grafana says of itself; nothing where it does not answer."""
    # It is on this host: no proxy, and its certificate has another name than the loopback.
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=ssl._create_unverified_context()),
    )
    try:
        with direct.open(url + "/api/health", timeout=ANSWER_SECONDS) as answer:
            said = json.loads(answer.read().decode("utf-8"))
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    return said if isinstance(said, dict) else {}


def restarts(shown):
    # type: (dict) -> int
    """Return how often systemd by itself has started the unit again."""
    return int(shown.get("NRestarts") or 0)


def given_up(shown, before):
    # type: (dict, int) -> bool
    """Say whether waiting for the unit is in vain, after so many restarts before the wait."""
    state = shown.get("ActiveState")
    return state == "failed" or (state == "activating" and restarts(shown) - before >= RESTARTS)


def package(listed):
    # type: (str) -> dict
    """Return the installed package of dpkg-query's lines."""
    for line in listed.splitlines():
        name, version, want, status = (line.split() + [""] * 4)[:4]
        if status == "installed":
            return dict(name=name, version=version, held=want == "hold")
    return dict(name="", version="", held=False)


def properties(text):
    # type: (str) -> dict
    """Return what systemctl shows of the unit."""
    shown = {}  # type: dict[str, str]
    for line in text.splitlines():
        name, _mark, value = line.partition("=")
        # EnvironmentFiles comes once per file.
        shown[name] = "%s\n%s" % (shown[name], value) if name in shown else value
    return shown


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec=dict(wait_seconds=dict(type="int", default=0)), supports_check_mode=True
    )

    def run(*command):
        if module.get_bin_path(command[0]) is None:
            return ""
        return module.run_command(list(command), environ_update={"LC_ALL": "C"})[1]

    def look():
        shown = properties(run("systemctl", "show", "--property=" + ",".join(PROPERTIES), UNIT))
        active = shown.get("ActiveState") in ("active", "activating", "reloading")
        loaded = shown.get("LoadState") == "loaded"
        settings = _grafana.Settings(shown if loaded else PACKAGED)
        url = settings.listener()[1] if active else ""
        return shown, loaded, active, settings, url, health(url) if url else {}

    deadline = time.time() + module.params["wait_seconds"]
    shown, loaded, active, settings, asked, said = look()
    before = restarts(shown)
    while asked and not said and not given_up(shown, before) and time.time() < deadline:
        time.sleep(PAUSE_SECONDS)
        shown, loaded, active, settings, asked, said = look()
    form = "${Package} ${Version} ${db:Status-Want} ${db:Status-Status}\\n"
    found = package(run("dpkg-query", "--show", "--showformat=" + form, *PACKAGES))
    known, whole = datasources(settings.database())
    listen, url = settings.listener()
    shown = shown if loaded else PACKAGED
    module.exit_json(
        changed=False,
        package=found,
        present=bool(found["name"]) or loaded,
        left=[path for path in LEFT if os.path.exists(path)],
        active=active,
        given_up=given_up(shown, before),
        healthy=said.get("database") == "ok",
        process=int(shown.get("MainPID") or 0),
        answers_version=str(said.get("version") or ""),
        enabled=shown.get("UnitFileState", "").startswith("enabled"),
        user=shown.get("User") or "root",
        group=shown.get("Group") or "root",
        config=settings.file,
        provisioning=settings.path("paths", "provisioning", "conf/provisioning"),
        database=settings.database(),
        listen=listen,
        url=url,
        datasources=known,
        datasources_known=whole,
    )


if __name__ == "__main__":
    main()
