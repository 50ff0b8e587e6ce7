"""`bus topics describe`, `bus groups describe` and `bus status` say who holds producers up."""

import os
from pathlib import Path

from bus.admin import Admin
from bus.broker import Broker
from tests.broker.rig import status
from tests.cli.runs import done
from tests.lag.rig import FRAME_BYTES, commit, fill, limited_topic, reader, sender


def test_limits_and_who_is_at_them_are_shown(bus_dir: Path, broker: Broker):
    limited_topic(bus_dir, max_lag_records=10, max_lag_bytes=1 << 20, groups="g,h")
    with reader(bus_dir, client_id="snail"), sender(bus_dir) as producer, Admin(bus_dir) as admin:
        assert fill(producer) == 10
        [topic] = admin.describe_topics(["t"])
        [row] = topic["lag"]
        assert (row["group"], row["records"], row["bytes"]) == ("g", 10, 10 * FRAME_BYTES)
        assert row["holds_up"]
        assert status(bus_dir)["lag"] == [row]
        shown = done("topics", "describe", "t", "--dir", bus_dir).stdout
        assert "max.lag.groups=g,h" in shown
        assert "held up" in shown
        member = f"member 'snail' (pid {os.getpid()})"
        assert member in shown
        assert member in done("status", bus_dir).stdout


def test_a_group_that_has_caught_up_holds_nobody_up(bus_dir: Path, broker: Broker):
    limited_topic(bus_dir, max_lag_records=10)
    with reader(bus_dir) as consumer, sender(bus_dir) as producer:
        assert fill(producer) == 10
        commit(consumer, 1)
        assert "limited" in done("groups", "describe", "g", "--dir", bus_dir).stdout
        assert fill(producer) == 1
        assert "held up" in done("groups", "describe", "g", "--dir", bus_dir).stdout
        commit(consumer, 11)
        assert status(bus_dir)["lag"] == []
