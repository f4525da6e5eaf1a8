#!/usr/bin/python
# Copyright: linmonitor.stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: verified_source
short_description: Fetch a source tree from the first place that has the right bytes
version_added: 1.0.0
description:
  - Asks an ordered list of places for a source tree and installs the first one whose content is
    what was pinned. Where it came from never matters, only its bytes do.
  - A tree is put in place by one rename, so O(dest) is either absent or whole.
author:
  - The linmonitor.stack maintainers (@linmonitor)
attributes:
  check_mode:
    support: full
    description: Says whether it would fetch, without asking any place.
  diff_mode:
    support: none
    description: Source trees are not shown.
options:
  name:
    description: What the source is called in messages.
    type: str
    required: true
  dest:
    description: Folder that will hold the tree. A tree that was verified earlier stays untouched.
    type: path
    required: true
  tree_sha256:
    description:
      - SHA-256 over the SHA-256 lines of all files below O(tree_paths), as printed by
        C(find PATHS -type f | LC_ALL=C sort | xargs sha256sum | sha256sum).
      - Without it each place must bring an identity of its own.
    type: str
  tree_paths:
    description: The parts of the tree that O(tree_sha256) covers.
    type: list
    elements: str
    default: ["."]
  places:
    description: Where to ask, in this order.
    type: list
    elements: dict
    required: true
    suboptions:
      kind:
        description: How the place is asked.
        type: str
        required: true
        choices: [archive, git, go_module, crate]
      location:
        description: Path or URL of an archive, URL of a repository, or name of a module or crate.
        type: str
        required: true
      ref:
        description: Tag, module version or crate version.
        type: str
      identity:
        description:
          - SHA-256 of an archive, commit of a git tag, C(h1:) hash of a Go module.
          - A crate has none; its content is judged by O(tree_sha256).
        type: str
      subdir:
        description: Part of what the place holds that is the tree.
        type: str
        default: "."
  variable:
    description: Variable named in the error message as the way to hand in a local copy.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Have the sources of libbpf 1.2.0
  linmonitor.stack.verified_source:
    name: libbpf 1.2.0
    dest: /var/cache/linmonitor/libbpf-1.2.0
    tree_sha256: eed7c5e61a8f473689648e0e525652a4110e1b148c7c35ddcd261f8f5e7eedae
    tree_paths: [src, include]
    variable: libbpf_archive
    places:
      - kind: git
        location: https://github.com/libbpf/libbpf.git
        ref: v1.2.0
        identity: fbd60dbff51c870f5e80a17c4f2fd639eb80af90
      - kind: crate
        location: libbpf-sys
        ref: 1.2.1
        subdir: libbpf
"""

RETURN = r"""
dest:
  description: Folder that holds the verified tree.
  returned: success
  type: str
  sample: /var/cache/linmonitor/libbpf-1.2.0
place:
  description: Kind and location of the place that gave it; empty when nothing was fetched.
  returned: success
  type: str
  sample: git https://github.com/libbpf/libbpf.git
attempts:
  description: What the places asked before it said, in order.
  returned: always
  type: list
  elements: str
  sample: ["git https://github.com/libbpf/libbpf.git: Could not resolve host: github.com"]
"""

import json
import os
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_native
from ansible.module_utils.urls import open_url
from ansible_collections.linmonitor.stack.plugins.module_utils import _archive, _sources
from ansible_collections.linmonitor.stack.plugins.module_utils._sources import SourceError

# What a place may take to give a tree.
PLACE_SECONDS = 180


class Fetcher:
    """Asks places; each method returns a folder that holds the tree."""

    def __init__(self, module, scratch):
        self.module = module
        self.scratch = scratch

    def fetch(self, place):
        """Return the folder of a tree whose place identity fits."""
        folder = getattr(self, "_" + place["kind"])(place)
        return os.path.normpath(os.path.join(folder, place["subdir"]))

    def _run(self, *command, **options):
        tool = self.module.get_bin_path(command[0])
        if tool is None:
            raise SourceError("%s is not installed" % command[0])
        # `timeout` because a place that never answers must not hold the play.
        bounded = ["timeout", str(PLACE_SECONDS), tool, *command[1:]]
        code, out, err = self.module.run_command(bounded, **options)
        if code == 124:
            raise SourceError("no answer within %s s" % PLACE_SECONDS)
        if code != 0:
            said = (err or out).strip().splitlines()
            raise SourceError(said[-1] if said else "%s ended with %s" % (command[0], code))
        return out

    def _archive(self, place):
        path = place["location"]
        if "://" in path:
            path = os.path.join(self.scratch, "archive")
            try:
                answer = open_url(place["location"], timeout=PLACE_SECONDS)
                with open(path, "wb") as out:
                    shutil.copyfileobj(answer, out)
            except Exception as error:  # urllib raises many kinds; each means no answer
                raise SourceError(to_native(error)) from error
        elif not os.path.isfile(path):
            raise SourceError("there is no such file")
        self._expect(place, _sources.file_sha256(path))
        folder = os.path.join(self.scratch, "unpacked")
        os.makedirs(folder)
        # A project may keep links in its tree; none of them is written.
        _archive.unpack(path, folder, left_out=_archive.LINKS)
        return _sources.top_folder(folder)

    def _git(self, place):
        folder = os.path.join(self.scratch, "clone")
        # Stop on a stalled transfer, and never ask for a password.
        quiet = dict(os.environ, GIT_TERMINAL_PROMPT="0")
        self._run(
            "git", "-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=20",
            "-c", "advice.detachedHead=false", "clone", "--quiet", "--depth", "1",
            "--branch", place["ref"], "--", place["location"], folder,
            environ_update=quiet,
        )  # fmt: skip
        self._expect(place, self._run("git", "-C", folder, "rev-parse", "HEAD").strip())
        shutil.rmtree(os.path.join(folder, ".git"))
        return folder

    def _go_module(self, place):
        wanted = "%s@%s" % (place["location"], place["ref"])
        out = self._run("go", "mod", "download", "-json", wanted, cwd=self.scratch)
        answer = json.loads(out)
        self._expect(place, answer["Sum"])
        folder = os.path.join(self.scratch, "module")
        # Go's module cache is read-only; the build needs to write go.mod.
        shutil.copytree(answer["Dir"], folder)
        for parent, folders, names in os.walk(folder):
            for name in folders + names:
                full = os.path.join(parent, name)
                os.chmod(full, os.stat(full).st_mode | 0o200)
        os.chmod(folder, 0o755)
        self._expect(place, _sources.go_module_h1(folder, place["location"], place["ref"]))
        return folder

    def _crate(self, place):
        project = os.path.join(self.scratch, "crate")
        os.makedirs(os.path.join(project, "src"))
        with open(os.path.join(project, "Cargo.toml"), "w") as out:
            out.write(
                '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n'
                '[dependencies]\n"%s" = "=%s"\n' % (place["location"], place["ref"])
            )
        with open(os.path.join(project, "src", "lib.rs"), "w"):
            pass
        # Not `cargo vendor`: it leaves out .gitignore files, which belong to the tree.
        out = self._run("cargo", "metadata", "--quiet", "--format-version", "1", cwd=project)
        manifests = {crate["name"]: crate["manifest_path"] for crate in json.loads(out)["packages"]}
        folder = os.path.join(self.scratch, "unpacked")
        shutil.copytree(os.path.dirname(manifests[place["location"]]), folder)
        return folder

    @staticmethod
    def _expect(place, found):
        wanted = place["identity"]
        if wanted and found != wanted:
            raise SourceError("it holds %s, but %s was expected" % (found, wanted))


def fetch_from_places(module, scratch):
    """Return (folder, place, attempts) of the first place with the right bytes."""
    fetcher, attempts = Fetcher(module, scratch), []
    wanted, paths = module.params["tree_sha256"], module.params["tree_paths"]
    for number, place in enumerate(module.params["places"]):
        label = "%s %s" % (place["kind"], place["location"])
        fetcher.scratch = os.path.join(scratch, str(number))
        os.makedirs(fetcher.scratch)
        try:
            if not wanted and not place["identity"]:
                raise SourceError("nothing is pinned to verify it with")
            folder = fetcher.fetch(place)
            if not os.path.isdir(folder):
                raise SourceError("it has no folder %s" % place["subdir"])
            found = _sources.tree_sha256(folder, paths)
            if wanted and found != wanted:
                raise SourceError("its tree hash is %s, but %s was expected" % (found, wanted))
            return folder, label, attempts
        except (SourceError, _archive.ArchiveError, OSError, ValueError) as error:
            attempts.append("%s: %s" % (label, to_native(error)))
            module.warn("%s is not to be had from %s" % (module.params["name"], attempts[-1]))
    return None, "", attempts


def main():
    """Run the module."""
    place_spec = dict(
        kind=dict(type="str", required=True, choices=["archive", "git", "go_module", "crate"]),
        location=dict(type="str", required=True),
        ref=dict(type="str"),
        identity=dict(type="str"),
        subdir=dict(type="str", default="."),
    )
    module = AnsibleModule(
        argument_spec=dict(
            name=dict(type="str", required=True),
            dest=dict(type="path", required=True),
            tree_sha256=dict(type="str"),
            tree_paths=dict(type="list", elements="str", default=["."]),
            places=dict(type="list", elements="dict", required=True, options=place_spec),
            variable=dict(type="str", required=True),
        ),
        supports_check_mode=True,
    )
    dest = module.params["dest"]
    # The marker is written last, inside the tree, before the one rename.
    pinned = json.dumps([module.params["tree_sha256"], module.params["places"]], sort_keys=True)
    marker = os.path.join(dest, _sources.MARKER)
    if os.path.isfile(marker):
        with open(marker) as stream:
            if stream.read() == pinned:
                module.exit_json(changed=False, dest=dest, place="", attempts=[])
    if module.check_mode:
        module.exit_json(changed=True, dest=dest, place="", attempts=[])

    parent = os.path.dirname(dest)
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=parent) as scratch:
        folder, place, attempts = fetch_from_places(module, scratch)
        if folder is None:
            module.fail_json(
                msg="No place gave %s with the right bytes. %s. Set %s to a local copy of it, or a "
                "proxy in toolchain_environment."
                % (module.params["name"], "; ".join(attempts), module.params["variable"]),
                attempts=attempts,
            )
        with open(os.path.join(folder, _sources.MARKER), "w") as out:
            out.write(pinned)
        shutil.rmtree(dest, ignore_errors=True)
        os.rename(folder, dest)
    module.exit_json(changed=True, dest=dest, place=place, attempts=attempts)


if __name__ == "__main__":
    main()
