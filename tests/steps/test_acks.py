"""A member of a share group dies before every instruction, and no record is lost or done twice."""

import os
from pathlib import Path

import pytest

from tests.steps.ack_sweep import ACKS, BREAKAGES, build, sweep

FULL = os.environ.get("BUS_STEPS_FULL") == "1"
TIMEOUT_S = 3600 if FULL else 300
GRID = "1" if FULL else "512"
#: A reap and a mending look at every slot: a death behind thousands of them takes its time.
LONG = "1" if FULL else "8192"
KINDS = {"share c": GRID, "share o": GRID, "share s": GRID, "share p": GRID, "share j": GRID}
KINDS |= {"share r": LONG, "share m": LONG}
KINDS |= {"lane c": GRID, "lane s": GRID, "lane f": GRID}
if FULL:  # a mending looks at every lane as well
    KINDS["lane m"] = LONG
TRIED = list(BREAKAGES) if FULL else list(BREAKAGES)[::4]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("steps"))


def test_each_path_of_the_table_is_swept_once():
    names = [
        line.split('"')[1]
        for file in ("main.c", "lanes.c")
        for line in (ACKS / file).read_text().splitlines()
        if line.startswith(('    {"share', '    {"lane'))
    ]
    assert len(names) == 13 + 9
    for name in names:
        kinds = [kind for kind in KINDS if name.startswith(kind)]
        assert len(kinds) == (1 if FULL or name != "lane mend" else 0), name


@pytest.mark.timeout(TIMEOUT_S + 60)
@pytest.mark.parametrize("kind", KINDS)
def test_a_death_at_any_instruction_of_a_share_group_loses_nothing(program: Path, kind: str):
    found = sweep(program, "--path", kind, "--grid", KINDS[kind], timeout_s=TIMEOUT_S)
    assert not found.violations, "\n".join(found.violations)
    assert found.paths
    assert all(path.kills > 1 and path.violations == 0 for path in found.paths)


@pytest.mark.timeout(TIMEOUT_S + 60)
@pytest.mark.parametrize("name", TRIED)
def test_the_sweep_of_ack_tables_notices_when(tmp_path: Path, name: str):
    path, breakages = BREAKAGES[name]
    broken = build(tmp_path, breakages)
    grid = LONG if path == "share mend" else "64"
    found = sweep(broken, "--path", path, "--grid", grid, timeout_s=TIMEOUT_S)
    assert found.violations, f"the sweep did not see that {name}"
