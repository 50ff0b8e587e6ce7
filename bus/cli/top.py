"""`bus top`: what moves on the bus, refreshed until Ctrl-C."""

import time
from dataclasses import dataclass

import click
from rich.console import Group
from rich.live import Live
from rich.table import Table

from bus.admin import Admin
from bus.cli.groups import describe_lag
from bus.cli.options import directory_argument
from bus.cli.output import human_bytes, human_rate, make_table, stdout_console


@dataclass(frozen=True, slots=True)
class Moment:
    """Log ends by topic, seen at one time (monotonic seconds)."""

    time: float
    ends: dict[str, int]

    def rate(self, topic: str, before: "Moment | None") -> float:
        """Records a second that came to a topic since the moment before."""
        if before is None or self.time <= before.time:
            return 0.0
        grown = self.ends[topic] - before.ends.get(topic, self.ends[topic])
        return grown / (self.time - before.time)


@click.command()
@directory_argument
@click.option("-i", "--interval", type=click.FloatRange(min=0.05), default=1.0, show_default=True)
@click.option("-n", "--count", type=click.IntRange(min=1), help="Stop after so many looks.")
def top(directory: str | None, interval: float, count: int | None) -> None:
    """Watch topics with their rates, groups with their lag, and who is attached.

    Exit codes: 0 after --count looks; 1 the bus said no; 2 wrong usage; 130 Ctrl-C.
    """
    looks = 0
    with Admin(directory) as admin, Live(console=stdout_console(), auto_refresh=False) as live:
        before = None
        while True:
            view, before = look(admin, before)
            live.update(view, refresh=True)
            looks += 1
            if looks == count:
                return
            time.sleep(interval)


def look(admin: Admin, before: Moment | None) -> tuple[Group, Moment]:
    """The screen as it is now, and the moment to compare the next one with."""
    topics = admin.describe_topics()
    ends = {
        topic["name"]: sum(one["log_end_offset"] for one in topic["partitions"]) for topic in topics
    }
    now = Moment(time.monotonic(), ends)
    status = admin.status()
    broker = status["broker"]
    head = (
        f"broker pid {broker['pid']}, epoch {broker['epoch']}, "
        f"{len(status['clients'])} clients, {human_bytes(status['hot_bytes'])} hot"
    )
    rows = []
    for topic in topics:
        parts = topic["partitions"]
        behind = sum(max(0, one["log_end_offset"] - one["high_watermark"]) for one in parts)
        durable = topic["configs"].get("durability") == "replicated"
        rate = human_rate(now.rate(topic["name"], before))
        waiting = behind if durable else None
        rows.append((topic["name"], len(parts), ends[topic["name"]], rate, waiting))
    table = make_table(("topic", ">partitions", ">log end", ">rate", ">not durable yet"), rows)
    return Group(head, table, _groups(admin)), now


def _groups(admin: Admin) -> Table:
    rows = []
    for group in admin.list_groups():
        found = describe_lag(admin, group["group_id"])
        lag = sum(one["lag"] or 0 for one in found["partitions"])
        rows.append((found["group"], found["state"], len(found["members"]), lag))
    return make_table(("group", "state", ">members", ">lag"), rows)
