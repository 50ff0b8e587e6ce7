"""The native core dies before every instruction, and a survivor finds all that was published."""

import os
import re
from pathlib import Path

import pytest

from tests.steps.breakages import BREAKAGES
from tests.steps.native_sweep import PROGRAM, build, sweep

#: All instructions in the full sweep; here every 256th, and between two that leave different
#: states, the one that makes the difference.
FULL = os.environ.get("BUS_STEPS_FULL") == "1"
GRID = "1" if FULL else "256"
TIMEOUT_S = 3600 if FULL else 300
#: How the names of the paths begin.
ROLLS = ("roll into", "roll and", "roll ar", "roll past", "roll an ")
KINDS = (*ROLLS, "append", "re", "ra", "ad", "at", "d", "p", "t", "u", "w", "g")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("steps"))


def test_each_path_of_the_table_is_swept_once():
    names = re.findall(r'^    \{"([^"]+)"', (PROGRAM / "paths.c").read_text(), re.MULTILINE)
    assert len(names) >= 30
    for name in names:
        assert len([kind for kind in KINDS if name.startswith(kind)]) == 1, name


@pytest.mark.timeout(TIMEOUT_S + 60)
@pytest.mark.parametrize("kind", KINDS)
def test_a_death_at_any_instruction_of_the_core_loses_nothing(
    program: Path, tmp_path: Path, kind: str
):
    options = ["--path", kind, "--grid", GRID, "--ask"]
    found = sweep(program, tmp_path / "hot", *options, timeout_s=TIMEOUT_S)
    assert not found.violations, "\n".join(found.violations)
    assert found.paths
    assert all(path.kills > 1 and path.violations == 0 for path in found.paths)


@pytest.mark.timeout(TIMEOUT_S + 60)
@pytest.mark.parametrize("path", ["append one record", "repair a dead holder's lock"])
def test_a_second_and_third_death_in_the_repair_lose_nothing(
    program: Path, tmp_path: Path, path: str
):
    options = ["--path", path, "--deaths", "3", "--grid", GRID, "--later-grid", "1024"]
    found = sweep(program, tmp_path / "hot", *options, timeout_s=TIMEOUT_S)
    assert not found.violations, "\n".join(found.violations)
    assert found.paths[0].states > 100


# ------------------------------------------------------------------- what the sweep would catch

#: One of each kind; the full sweep tries all.
TRIED = list(BREAKAGES) if FULL else list(BREAKAGES)[::5]


@pytest.mark.timeout(TIMEOUT_S + 60)
@pytest.mark.parametrize("name", TRIED)
def test_the_sweep_notices_when(tmp_path: Path, name: str):
    path, breakages = BREAKAGES[name]
    broken = build(tmp_path, breakages)
    found = sweep(broken, tmp_path / "hot", "--path", path, "--grid", "16", timeout_s=TIMEOUT_S)
    assert found.violations, f"the sweep did not see that {name}"
