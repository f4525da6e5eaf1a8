# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that turn the info modules' answers into the preflight report and its table."""

from __future__ import annotations

from typing import Any

from ansible_collections.linmonitor.stack.plugins.module_utils import _host

DOCUMENTATION = r"""
name: preflight
short_description: Turn answers about kernels and programs into a report and its table
version_added: 1.0.0
description:
  - Used by C(playbooks/preflight.yml).
  - Private to this collection, whose releases may change or drop these filters without notice.
author: [The linmonitor.stack maintainers (@linmonitor)]
"""


def _fault(programs: dict[str, Any], architecture: str, strict: bool) -> str:
    """Say why this host cannot be deployed to, or nothing."""
    machine, left_out = programs["kernel"]["machine"], programs["left_out"]
    if machine != architecture:
        return f"is {machine}, the artifact is for {architecture} (ebpf_exporter_architecture)"
    if len(left_out) == len(programs["programs"]):
        return "can run none of the wanted programs"
    if strict and left_out:
        return f"cannot run {', '.join(left_out)}, and ebpf_exporter_strict wants all"
    return ""


def _no_answer(host: str, answers: list[dict[str, Any]]) -> str:
    """Say what came instead of an answer, or nothing."""
    for one in answers:
        if not one or one.get("unreachable") or one.get("failed"):
            return _host.unreadable(host, one) or str(one.get("msg", "no answer"))
    return ""


def preflight_report(
    hosts: list[str],
    kernels: list[dict[str, Any]],
    programs: list[dict[str, Any]],
    architectures: list[str],
    strict: bool,
) -> list[dict[str, Any]]:
    """Join the answers of kernel_headers_info and bpf_program_info, one entry per host.

    An entry's `fault` is empty where the host can be deployed to. A host that did not answer
    has nothing but its name and its fault.
    """
    report = []
    for host, kernel, answer, architecture in zip(hosts, kernels, programs, architectures):
        entry: dict[str, Any] = {"host": host, "fault": _no_answer(host, [kernel, answer])}
        report.append(entry)
        if entry["fault"]:
            continue
        entry["fault"] = _fault(answer, architecture, strict)
        entry["kernel"] = {**answer["kernel"], "reboot_pending": kernel["reboot_pending"]}
        entry["headers"] = kernel["headers"]
        for key in ("capabilities", "memlock", "hooks_known", "verdict_source", "disagreements"):
            entry[key] = answer[key]
        entry["programs"] = {
            name: {key: program[key] for key in ("variant", "forecast", "reason")}
            for name, program in answer["programs"].items()
        }
    return report


def preflight_rows(report: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Lay the report out as a table's rows, one per host and program."""
    columns = ("kernel", "btf", "headers", "program", "variant", "basis", "needs")
    rows = []
    for entry in report:
        host = {**dict.fromkeys(columns, "-"), "host": entry["host"], "reason": entry["fault"]}
        if "programs" not in entry:
            rows.append(host)
            continue
        kernel = entry["kernel"]
        host["kernel"] = kernel["release"]
        host["kernel"] += " (reboot due)" if kernel["reboot_pending"] else ""
        host["btf"] = "yes" if kernel["btf"] else "no"
        host["headers"] = entry["headers"]["state"]
        host["basis"] = entry["verdict_source"] or "forecast"
        host["needs"] = " ".join(entry["capabilities"]) or "-"
        rows += [
            {**host, "program": name, "variant": one["variant"] or "-", "reason": one["reason"]}
            for name, one in entry["programs"].items()
        ]
    return rows


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"preflight_report": preflight_report, "preflight_rows": preflight_rows}
