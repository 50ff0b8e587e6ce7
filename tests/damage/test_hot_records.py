"""A record damaged in the hot log is lost alone, and its replica goes on."""

import os
from pathlib import Path

import pytest

from bus.durable import DATA_START
from bus.errors import BrokerNotRunningError
from tests.broker.hotlog import HotLog, drain
from tests.damage import harm


def damage(hot: HotLog, position: int) -> None:
    with hot.segment_file(1).open("r+b") as file:
        file.seek(position)
        file.write(b"\xff")


def test_a_damaged_last_frame_is_lost_and_the_log_goes_on_behind_it(tmp_path: Path) -> None:
    with HotLog(tmp_path) as hot:
        follower = hot.follower()
        follower.resume()
        hot.append(b"a" * 100, b"b" * 100, b"c" * 100)
        damage(hot, hot.log.tail[1] - 60)
        drain(follower)
        hot.append(b"d" * 100)
        drain(follower)
        assert hot.log.lost() == [(2, 3)]
        assert hot.log.high_watermark == 4
        follower.close()


def test_frames_behind_a_damaged_one_are_not_lost_with_it(tmp_path: Path) -> None:
    with HotLog(tmp_path) as hot:
        follower = hot.follower()
        follower.resume()
        hot.append(b"a" * 100, b"b" * 100, b"c" * 100, b"d" * 100)
        damage(hot, DATA_START + 152 + 60)
        drain(follower)
        assert hot.log.lost() == [(1, 2)]
        assert hot.log.high_watermark == 4
        assert hot.durable_ends() == {0: (4, False)}
        follower.close()


@pytest.mark.parametrize("kind", ["deleted", "emptied", "directory"])
def test_a_replica_that_meets_a_harmed_file_while_the_bus_stops_tells_what_is_lost(
    tmp_path: Path, kind: str
) -> None:
    """Else the records would wait for the disk for ever, and each stop keep the hot log."""
    with HotLog(tmp_path) as hot:
        hot.hot.publish()
        hot.append(b"a" * 100, b"b" * 100)
        harm.SEGMENT_HARM[kind](hot.segment_file(1))
        hot.hot.announce_stop()
        follower = hot.follower()
        follower.resume()
        drain(follower)
        assert hot.log.lost() == [(0, 2)]
        assert hot.log.high_watermark == hot.log.log_end_offset == 2
        follower.close()


def test_files_that_are_gone_with_the_bus_are_no_damage(tmp_path: Path) -> None:
    with HotLog(tmp_path) as hot:
        hot.hot.publish()
        hot.append(b"a" * 100)
        hot.hot.announce_stop()
        follower = hot.follower()
        follower.resume()
        for name in ("bus.ctl", hot.segment_file(1).name):  # in the order of hotdir.wipe
            os.unlink(hot.hot.path / name)
        with pytest.raises(BrokerNotRunningError, match="its hot files are gone"):
            drain(follower)
        assert hot.log.lost() == []
        follower.close()
