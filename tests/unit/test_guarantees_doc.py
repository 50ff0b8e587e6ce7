"""docs/guarantees.md names tests as proof: each of them must exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "guarantees.md"
TEST_ID = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
FAULTS = 32


def cited_tests() -> list[tuple[str, str]]:
    return sorted(set(TEST_ID.findall(DOCUMENT.read_text(encoding="utf-8"))))


def names_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_test_that_is_named_as_a_proof_exists() -> None:
    named = cited_tests()
    assert named
    missing = [f"{path}::{name}" for path, name in named if name not in names_in(path)]
    assert not missing


@pytest.mark.parametrize("number", range(1, FAULTS + 1))
def test_every_fault_of_the_matrix_has_a_proof_or_says_that_it_has_none(number: int) -> None:
    rows = re.findall(rf"^\| {number} \|.*$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) == 1
    cited = TEST_ID.search(rows[0]) or "the same" in rows[0].rsplit("|", 2)[-2]
    assert cited or "**not proven**" in rows[0]
