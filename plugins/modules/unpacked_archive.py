#!/usr/bin/python
# Copyright: linmonitor.stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: unpacked_archive
short_description: Have an archive unpacked in a folder of its own, whole or not at all
version_added: 1.0.0
description:
  - Sends an archive from the controller and unpacks it on the host, unless O(dest) has its files
    already and none of them is damaged.
  - The archive is taken for data from strangers, whatever it hashes to. Plain files and folders
    come out, owned by the user who unpacks, with modes 0755 and 0644. Names outside the archive,
    links, devices, pipes, sparse files, set-user-ID bits, entries that everybody may write and
    gigabytes behind a small archive are refused by name, and O(dest) is then as it was.
  - What O(dest) held before is removed. A file C(.content.json) in it says what was unpacked.
author:
  - The linmonitor.stack maintainers (@linmonitor)
attributes:
  check_mode:
    support: full
    description: Says whether it would unpack; the archive need not be there.
  diff_mode:
    support: none
    description: Shows no content.
  action:
    support: full
    description: Sends the archive, and only where the host needs it.
options:
  src:
    description: The archive, a file on the controller. tar, also with gzip, bzip2 or xz, or zip.
    type: path
    required: true
  dest:
    description: Folder on the host.
    type: path
    required: true
  sha256:
    description: What O(src) must hash to. The action plugin sets it where it is not given.
    type: str
  top_folder:
    description: Whether the one folder that holds all the rest is left out.
    type: bool
    default: false
  sent:
    description: Where O(src) lies on the host. The action plugin sets it.
    type: path
"""

EXAMPLES = r"""
- name: Have a release of Prometheus
  linmonitor.stack.unpacked_archive:
    src: prometheus-2.37.8.linux-amd64.tar.gz
    dest: /opt/linmonitor/prometheus/2.37.8-release
    top_folder: true
  become: true
"""

RETURN = r"""
archive_wanted:
  description: Whether the host lacks the archive's files and the archive was not sent.
  returned: success
  type: bool
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_native
from ansible_collections.linmonitor.stack.plugins.module_utils import _archive, _release

DRAFT = ".new"


def put_in_place(params):
    # type: (dict) -> None
    """Unpack into a draft beside the folder, and let it take the folder's place."""
    found = _archive.file_sha256(params["sent"])
    if found != params["sha256"]:
        raise _archive.ArchiveError(
            "it has the SHA-256 %s, expected is %s" % (found, params["sha256"])
        )
    dest = params["dest"]
    scratch = os.path.join(os.path.dirname(dest), DRAFT)
    _release.make_folders(os.path.dirname(dest))
    # One name, so that what a cut leaves is gone with the next run.
    _release.remove(scratch)
    os.mkdir(scratch, 0o700)
    try:
        draft = os.path.join(scratch, "new")
        os.mkdir(draft)
        os.chmod(draft, 0o755)
        sums = _archive.unpack(params["sent"], draft)
        if params["top_folder"]:
            tops = {path.partition("/")[0] for path in sums if "/" in path}
            if len(tops) != 1 or not all("/" in path for path in sums):
                raise _archive.ArchiveError("it does not hold one folder with all the rest")
            (top,) = tops
            draft = os.path.join(draft, top)
            sums = {path[len(top) + 1 :]: digest for path, digest in sums.items()}
        _archive.remember(draft, sums, found)
        if os.path.lexists(dest):
            os.rename(dest, os.path.join(scratch, "old"))
        os.rename(draft, dest)
    finally:
        _release.remove(scratch)


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec=dict(
            src=dict(type="path", required=True),
            dest=dict(type="path", required=True),
            sha256=dict(type="str"),
            top_folder=dict(type="bool", default=False),
            sent=dict(type="path"),
        ),
        supports_check_mode=True,
    )
    params = module.params
    if _archive.whole(params["dest"], params["sha256"] or "no archive"):
        module.exit_json(changed=False, archive_wanted=False)
    if module.check_mode or not params["sent"]:
        module.exit_json(changed=True, archive_wanted=True)
    try:
        put_in_place(params)
    except (_archive.ArchiveError, OSError, ValueError) as error:
        module.fail_json(
            msg="%s is refused, and %s is as it was: %s"
            % (params["src"], params["dest"], to_native(error))
        )
    module.exit_json(changed=True, archive_wanted=False)


if __name__ == "__main__":
    main()
