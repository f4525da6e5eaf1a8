#!/usr/bin/python
# Copyright: linmonitor.stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: unpacked_bundle
short_description: Have what a bundle holds in the controller's cache
version_added: 1.0.0
description:
  - A bundle is what C(playbooks/bundle.yml) makes, a tar of entries of a cache whose first one,
    C(linmonitor.lock.txt), has the SHA-256 of each other.
  - It is taken for data from strangers, like what M(linmonitor.stack.unpacked_archive) unpacks. It
    is refused, by the name of what is wrong, unless it holds what its lock names, no more and no
    less. The cache is then as it was.
author:
  - The linmonitor.stack maintainers (@linmonitor)
attributes:
  check_mode:
    support: full
    description: Reads the bundle and writes nothing.
  diff_mode:
    support: none
    description: Shows no content.
options:
  src:
    description: The bundle, a file on the controller.
    type: path
    required: true
  cache:
    description: Folder of the controller's cache.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Have what the bundle holds in the cache
  linmonitor.stack.unpacked_bundle:
    src: site.tar
    cache: ~/.cache/linmonitor
  delegate_to: localhost
"""

RETURN = r"""
files:
  description: For each entry of the bundle, by its name, its C(path) in the cache and C(sha256).
  returned: success
  type: dict
  sample:
    packages/bookworm-x86_64.tar:
      path: /home/op/.cache/linmonitor/packages/bookworm-x86_64.tar
      sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
"""

import os
import re
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_native
from ansible_collections.linmonitor.stack.plugins.module_utils import _archive, _release

LOCK = "linmonitor.lock.txt"
LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


def read_lock(text):
    # type: (str) -> dict
    """Return the SHA-256 of each file that a lock names."""
    locked = {}
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        if match is None:
            raise _archive.ArchiveError("its %s has a line %s" % (LOCK, ascii(line[:200])))
        locked[match[2]] = match[1]
    if not locked:
        raise _archive.ArchiveError("it has no %s, or an empty one" % LOCK)
    return locked


def known(path, digest):
    # type: (str, str) -> bool
    """Say whether a file of the cache is there with the right bytes."""
    return os.path.isfile(path) and _archive.file_sha256(path) == digest


def fill(bundle, cache, locked):
    # type: (str, str, dict) -> None
    """Unpack all of a bundle beside the cache's entries, compare it, and put it in their place."""
    with tempfile.TemporaryDirectory(prefix="bundle-", dir=cache) as draft:
        sums = _archive.unpack(bundle, draft)
        sums.pop(LOCK, None)
        for name, digest in sums.items():
            if digest != locked[name]:
                raise _archive.ArchiveError(
                    "%s has the SHA-256 %s, its %s says %s" % (name, digest, LOCK, locked[name])
                )
        for name in sums:
            target = os.path.join(cache, name)
            if os.path.isdir(target):
                shutil.rmtree(target)
            _release.make_folders(os.path.dirname(target))
            os.replace(os.path.join(draft, name), target)


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec=dict(
            src=dict(type="path", required=True), cache=dict(type="path", required=True)
        ),
        supports_check_mode=True,
    )
    bundle, cache = module.params["src"], module.params["cache"]
    try:
        text, paths = _archive.look(bundle, LOCK)
        locked = read_lock(text)
        for name in sorted(paths.symmetric_difference([*locked, LOCK])):
            raise _archive.ArchiveError(
                "%s is %s" % (name, "not named by its " + LOCK if name in paths else "not in it")
            )
        files = {
            name: {"path": os.path.join(cache, name), "sha256": digest}
            for name, digest in locked.items()
        }
        changed = not all(known(file["path"], file["sha256"]) for file in files.values())
        if changed and not module.check_mode:
            _release.make_folders(cache)
            fill(bundle, cache, locked)
    except (_archive.ArchiveError, OSError, ValueError) as error:
        module.fail_json(
            msg="The bundle %s is refused, and nothing of it was used: %s. Copy it again, or make "
            "it again with playbooks/bundle.yml where the internet is." % (bundle, to_native(error))
        )
    module.exit_json(changed=changed, files=files)


if __name__ == "__main__":
    main()
