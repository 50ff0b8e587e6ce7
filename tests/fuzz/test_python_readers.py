"""Damaged files of a bus: whatever of Python reads them raises errors of the bus, or reads on."""

import os
import random
import struct
from pathlib import Path

import pytest

from bus.errors import CorruptSegmentError
from bus.native.core import LAYOUT, gap_frame
from tests.broker.hotlog import HotLog, drain
from tests.fuzz import damage
from tests.fuzz.build import build_core
from tests.fuzz.loops import run_python

#: With BUS_FUZZ_S (`tox -e fuzz`) the core is a sanitized one, whose compilation takes a minute.
SECONDS = int(os.environ.get("BUS_FUZZ_S", "3"))
IS_LONG = "BUS_FUZZ_S" in os.environ
SEED = int(os.environ.get("BUS_FUZZ_SEED", "1"))
EXECUTIONS_MIN = 10


@pytest.mark.timeout(SECONDS + 1200)
def test_damaged_files_harm_no_reader_of_python(tmp_path: Path):
    core = build_core(tmp_path) if IS_LONG else None
    (tmp_path / "bus").mkdir()
    done = run_python(tmp_path / "bus", SEED, SECONDS, core)
    assert done.code == 0, f"seed {SEED}: {done.text}"
    print(done.text)
    assert done.executions >= EXECUTIONS_MIN


def test_a_frame_that_verifies_with_a_later_offset_is_lost_and_no_replica_dies_of_it(
    tmp_path: Path,
):
    with HotLog(tmp_path) as hot:
        hot.append(*[b"record"] * 5)
        victim = damage.Victim(hot.segment_file(1), random.Random(1))
        at = damage.frames_of(victim.bytes)[1]
        victim.put(at + LAYOUT["bus_frame.offset"], struct.pack("<Q", 3))
        damage.mend_frame(victim, at)
        follower = hot.follower()
        follower.resume()
        drain(follower)
        follower.close()
        assert hot.log.lost() == [(1, 2)]
        assert hot.log.high_watermark == 5


@pytest.mark.parametrize("size", [0, 8, 47])
def test_a_gap_without_room_for_its_frame_is_refused(size: int):
    with pytest.raises(CorruptSegmentError, match="no room"):
        gap_frame(size, 1, 2, 3)
