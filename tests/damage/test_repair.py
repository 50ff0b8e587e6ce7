"""`bus check --repair`: what it says, what it keeps, and that it may be killed anywhere."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bus.broker import Broker
from bus.check import check_directory
from tests.damage.rest_bus import KILLED, STOPPED, RestingBus, end_processes
from tests.damage.rest_faults import Fault, sampled
from tests.damage.rest_trial import run

EVERY = "BUS_DAMAGE_TRIALS" in os.environ
TRIALS = int(os.environ.get("BUS_DAMAGE_TRIALS") or 2)
MIDDLE = "topics/t/0/00000000000000000025.log"
REPAIRED, LEFT, NOT_TRIED, WITH_LOSSES = 0, 1, 2, 3
#: Ends at the n-th call by which a repair changes a file.
DYING = """
import os, sys
left = int(sys.argv[2])
def dying(call):
    def counted(*args, **options):
        global left
        left -= 1
        if left == 0:
            os._exit(77)
        return call(*args, **options)
    return counted
for name in ("rename", "fsync", "unlink", "pwrite", "mkdir"):
    setattr(os, name, dying(getattr(os, name)))
from bus.repair import repair_directory
repair_directory(sys.argv[1])
"""
DIED = 77


def repair(path: Path) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "bus", "check", "--repair", "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.timeout(3000 if EVERY else 120)
def test_after_a_repair_the_bus_is_clean_and_what_is_lost_was_told(
    resting: Callable[[str], RestingBus],
) -> None:
    for bus, fault in sampled(resting, at_most=TRIALS, everywhere=EVERY):
        outcome = run(bus, fault, repair=True)
        assert not outcome.wrong, f"{fault}: {outcome.wrong}; check found {outcome.found}"


def test_a_damaged_file_is_made_anew_from_the_hot_copy_and_kept(
    resting: Callable[[str], RestingBus],
) -> None:
    bus = resting(KILLED)
    whole = bus.file(MIDDLE).read_bytes()
    Fault(KILLED, "scramble 64 bytes of", (MIDDLE,), 7).inflict(bus)
    damaged = bus.file(MIDDLE).read_bytes()
    code, answer = repair(bus.path)
    assert (code, answer["clean"], answer["losses"]) == (REPAIRED, True, False)
    [done] = [one for one in answer["repairs"] if one["file"] == MIDDLE]
    assert "hot copy" in done["what"]
    assert (bus.path / done["kept"]).read_bytes() == damaged != whole
    assert repair(bus.path) == (
        REPAIRED,
        {"clean": True, "losses": False, "repairs": [], "damages": []},
    )


@pytest.mark.parametrize("deed", ["delete", "zero"])
def test_a_hot_file_that_is_gone_keeps_no_repair_from_its_end(
    resting: Callable[[str], RestingBus], deed: str
) -> None:
    """Its records are met as lost while the broker of the repair stops."""
    fault = Fault(KILLED, deed, ("hot:2-1.1.seg",), 0)
    outcome = run(resting(KILLED), fault, repair=True)
    assert not outcome.wrong
    assert [(first, end) for _, first, end in outcome.gaps] == [(6, 10)]
    assert outcome.losses == {"."}


def test_what_verifies_nowhere_is_lost_aloud(resting: Callable[[str], RestingBus]) -> None:
    bus = resting(STOPPED)
    data = bytearray(bus.file(MIDDLE).read_bytes())
    data[100_000] ^= 1
    bus.file(MIDDLE).write_bytes(data)
    command = [sys.executable, "-m", "bus", "check", "--repair", str(bus.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == WITH_LOSSES
    assert f"{MIDDLE}: LOST: made anew from its frames; records 27 to 27 are lost" in done.stdout
    assert "1 repairs, with losses; clean" in done.stderr


def test_nothing_is_repaired_while_a_broker_runs(resting: Callable[[str], RestingBus]) -> None:
    bus = resting(STOPPED)
    with Broker(bus.path):
        Fault(STOPPED, "scramble 64 bytes of", (MIDDLE,), 7).inflict(bus)
        damaged = bus.file(MIDDLE).read_bytes()
        command = [sys.executable, "-m", "bus", "check", "--repair", str(bus.path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (NOT_TRIED, "")
        assert f"bus stop {bus.path}" in done.stderr
        assert bus.file(MIDDLE).read_bytes() == damaged


def _spoil(bus: RestingBus) -> None:
    """Something of everything that a repair mends."""
    for deed, name in (
        ("scramble 64 bytes of", MIDDLE),
        ("delete", "topics/t/0/00000000000000000000.log"),
        ("zero", "topics/other/topic.json"),
        ("zero", "topics/other/topic.json.copy"),
        ("delete", "next_id"),
        ("zero", "groups/g.offsets"),
        ("put a symbolic link in the place of", "topics/t/1/state.json"),
    ):
        Fault(bus.how, deed, (name,), 7).inflict(bus)


@pytest.mark.timeout(3000 if EVERY else 120)
@pytest.mark.parametrize("how", [STOPPED, KILLED])
def test_a_repair_that_was_killed_is_done_by_the_next_one(
    resting: Callable[[str], RestingBus], how: str
) -> None:
    seed = int(os.environ.get("BUS_FAULT_SEED") or int.from_bytes(os.urandom(3), "big"))
    print(f"BUS_FAULT_SEED={seed}")
    deaths = range(1, 500) if EVERY else sorted(random.Random(seed).sample(range(1, 40), 2))
    for death in deaths:
        bus = resting(how)
        _spoil(bus)
        command = [sys.executable, "-c", DYING, str(bus.path), str(death)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != DIED:
            assert done.returncode == 0, done.stderr
            break
        end_processes(bus.path)  # it may have started a broker
        code, answer = repair(bus.path)
        assert code in (REPAIRED, WITH_LOSSES), f"after a death at call {death}: {answer}"
        assert check_directory(bus.path) == []
