"""`bus topics describe`, `bus groups describe` and `bus status` say who holds producers up."""

import os
from pathlib import Path

from bus.admin import Admin
from tests.broker.rig import status
from tests.cli.runs import done
from tests.lag.rig import FRAME_BYTES, commit, fill, limited_topic, reader, sender


def test_limits_and_who_is_at_them_are_shown(shared_bus: Path):
    limited_topic(shared_bus, max_lag_records=10, max_lag_bytes=1 << 20, groups="g,h")
    with (
        reader(shared_bus, client_id="snail"),
        sender(shared_bus) as producer,
        Admin(shared_bus) as admin,
    ):
        assert fill(producer) == 10
        [topic] = admin.describe_topics(["t"])
        [row] = topic["lag"]
        assert (row["group"], row["records"], row["bytes"]) == ("g", 10, 10 * FRAME_BYTES)
        assert row["holds_up"]
        assert status(shared_bus)["lag"] == [row]
        shown = done("topics", "describe", "t", "--dir", shared_bus).stdout
        assert "max.lag.groups=g,h" in shown
        assert "held up" in shown
        member = f"member 'snail' (pid {os.getpid()})"
        assert member in shown
        assert member in done("status", shared_bus).stdout


def test_a_group_that_has_caught_up_holds_nobody_up(shared_bus: Path):
    limited_topic(shared_bus, max_lag_records=10)
    with reader(shared_bus) as consumer, sender(shared_bus) as producer:
        assert fill(producer) == 10
        commit(consumer, 1)
        assert "limited" in done("groups", "describe", "g", "--dir", shared_bus).stdout
        assert fill(producer) == 1
        assert "held up" in done("groups", "describe", "g", "--dir", shared_bus).stdout
        commit(consumer, 11)
        assert status(shared_bus)["lag"] == []
