# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""btf_info: what is absent or broken is an answer, only a wrong question is an error."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.linmonitor.stack.plugins.module_utils import _btf
from ansible_collections.linmonitor.stack.plugins.modules import btf_info
from btf_blob import Blob, kernel

QUESTIONS = {
    "functions": ["blk_start", "nope"],
    "tracepoints": ["block_rq_issue"],
    "members": ["request.tag", "request.rq_disk"],
}


@pytest.fixture
def tree(tmp_path) -> Path:
    (tmp_path / "sys/kernel/btf").mkdir(parents=True)
    (tmp_path / "sys/kernel/btf/vmlinux").write_bytes(kernel().bytes())
    return tmp_path


def test_answers_every_question(run, tree):
    result = run(btf_info, root=str(tree), **QUESTIONS)
    assert result["valid"] and result["present"] and result["fits_kernel"]
    assert result["changed"] is False
    assert result["file"] == "/sys/kernel/btf/vmlinux"
    assert result["size"] == len(kernel().bytes())
    assert result["byte_order"] == sys.byteorder
    assert result["functions"]["blk_start"]["exists"] is True
    assert len(result["functions"]["blk_start"]["parameters"]) == 2
    assert result["functions"]["nope"] == {"exists": False, "parameters": []}
    arguments = result["tracepoints"]["block_rq_issue"]["arguments"]
    assert arguments == [{"name": "", "type": "struct request *"}]
    assert result["members"] == {
        "request.tag": {"exists": True, "type": "int"},
        "request.rq_disk": {"exists": False, "type": None},
    }


def test_answers_the_same_in_check_mode(run, tree):
    plain = run(btf_info, root=str(tree), **QUESTIONS)
    assert run(btf_info, root=str(tree), _ansible_check_mode=True, **QUESTIONS) == {
        **plain,
        "invocation": plain["invocation"],
    }


def test_looks_into_modules(run, tree):
    base = _btf.Btf(kernel().bytes())
    blob = Blob(base.count + 1, base.string_end)
    blob.function("module_start")
    (tree / "sys/kernel/btf/mine").write_bytes(blob.bytes())
    (tree / "sys/kernel/btf/broken").write_bytes(b"")
    result = run(
        btf_info,
        root=str(tree),
        modules=["mine", "broken", "absent"],
        functions=["module_start", "seven"],
    )
    assert result["modules"]["mine"]["valid"] and result["modules"]["mine"]["types"] == 2
    assert result["modules"]["broken"]["reason"].endswith("empty file")
    assert result["modules"]["absent"]["present"] is False
    assert all(answer["exists"] for answer in result["functions"].values())


def test_kernel_without_btf_leaves_questions_open(run, tmp_path):
    result = run(btf_info, root=str(tmp_path), modules=["mine"], **QUESTIONS)
    assert not result["present"] and not result["valid"]
    assert result["reason"] == "/sys/kernel/btf/vmlinux does not exist"
    assert result["functions"]["blk_start"] == {"exists": None, "parameters": []}
    assert result["members"]["request.tag"]["exists"] is None
    assert result["fits_kernel"] is None


def test_broken_file_gives_file_and_reason(run, tree):
    (tree / "sys/kernel/btf/vmlinux").write_bytes(kernel().bytes()[:100])
    result = run(btf_info, root=str(tree))
    assert result["present"] and not result["valid"]
    assert result["reason"].startswith("/sys/kernel/btf/vmlinux: truncated")


def test_folder_instead_of_a_file_is_an_answer(run, tmp_path):
    (tmp_path / "sys/kernel/btf/vmlinux").mkdir(parents=True)
    assert "directory" in run(btf_info, root=str(tmp_path))["reason"]


def test_file_of_another_kernel_is_told_by_the_kernels_own(run, tree):
    (tree / "same.btf").write_bytes(kernel().bytes())
    (tree / "other.btf").write_bytes(kernel(functions=1).bytes())
    assert run(btf_info, root=str(tree), path="/same.btf")["fits_kernel"] is True
    assert run(btf_info, root=str(tree), path="/other.btf")["fits_kernel"] is False


def test_file_of_another_kernel_is_told_by_the_symbols(run, tmp_path):
    (tmp_path / "file.btf").write_bytes(kernel().bytes())
    assert run(btf_info, root=str(tmp_path), path="/file.btf")["fits_kernel"] is None
    (tmp_path / "proc").mkdir()
    symbols = tmp_path / "proc/kallsyms"
    symbols.write_text("0 T blk_start\n0 t seven.isra.0\n0 T other\t[module]\n")
    assert run(btf_info, root=str(tmp_path), path="/file.btf")["fits_kernel"] is True
    symbols.write_text("0 T something_else\n")
    assert run(btf_info, root=str(tmp_path), path="/file.btf")["fits_kernel"] is False


@pytest.mark.parametrize("wrong", [{"members": ["request"]}, {"modules": ["../../etc/passwd"]}])
def test_wrong_question_is_an_error_that_names_it(run, tree, wrong):
    result = run(btf_info, root=str(tree), **wrong)
    assert result["failed"]
    assert next(iter(wrong.values()))[0] in result["msg"]
