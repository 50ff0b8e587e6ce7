"""A record damaged in the hot log is lost alone, and its replica goes on."""

from pathlib import Path

from bus.durable import DATA_START
from tests.broker.hotlog import HotLog, drain


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
