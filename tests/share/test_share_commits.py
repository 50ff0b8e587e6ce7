"""A member commits what is done while it works, and not only when it has nothing to do."""

import itertools
import time
from pathlib import Path

from bus import Admin, Producer, ShareConsumer, TopicPartition

WORK = TopicPartition("work", 0)


def test_who_looks_on_can_commit_what_others_have_done(broker: object, bus_dir: Path) -> None:
    options = {"bootstrap_servers": bus_dir, "group_id": "team"}
    with (
        Producer(bus_dir, acks=1) as producer,
        ShareConsumer("work", **options) as worker,  # type: ignore[arg-type]
        ShareConsumer("work", **options) as onlooker,  # type: ignore[arg-type]
        Admin(bus_dir) as admin,
    ):
        for _ in range(3):
            producer.send("work", b"")
        worker.ack(*worker.poll(10_000, max_records=2)[WORK])
        onlooker.commit()
        assert admin.list_group_offsets("team")["team"][WORK].offset == 2


def test_what_is_done_is_committed_soon_also_by_a_member_that_always_has_work(
    broker: object, bus_dir: Path
) -> None:
    commits: list[float] = []
    with (
        Producer(bus_dir, acks=1) as producer,
        ShareConsumer("work", bootstrap_servers=bus_dir, group_id="team") as member,
        Admin(bus_dir) as admin,
    ):

        def committed() -> int:
            offsets = admin.list_group_offsets("team")["team"]
            return offsets[WORK].offset if WORK in offsets else 0

        while len(commits) < 4:
            before = committed()
            while committed() == before:
                producer.send("work", b"")
                for records in member.poll(10_000).values():
                    member.ack(*records)
            commits.append(time.monotonic())
    # every 100 ms; its other duties are due every two seconds
    assert min(later - one for one, later in itertools.pairwise(commits)) < 1.0
