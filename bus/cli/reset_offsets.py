"""`bus groups reset-offsets`: say where a group without members shall read on."""

from collections.abc import Mapping
from datetime import UTC, datetime

import click

from bus.admin import Admin, OffsetSpec
from bus.admin.resets import LogRange, Reset, plan_offsets, plan_shift
from bus.cli.options import directory_option, json_option
from bus.cli.output import note, print_json, print_table
from bus.errors import GroupIdNotFoundError, UnknownTopicOrPartitionError
from bus.structs import TopicPartition


@click.command("reset-offsets")
@click.argument("group")
@click.option(
    "-t", "--topic", "topics", multiple=True, metavar="TOPIC[:P,P…]", help="What to reset."
)
@click.option("--all-topics", is_flag=True, help="All topics for which the group has offsets.")
@click.option("--to-earliest", is_flag=True, help="The oldest record there is.")
@click.option("--to-latest", is_flag=True, help="Behind the newest record.")
@click.option("--to-offset", type=int, metavar="N", help="This offset.")
@click.option("--to-datetime", metavar="ISO8601", help="First record at or after it; UTC if bare.")
@click.option("--shift-by", type=int, metavar="N", help="N records forwards; -N: backwards.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done (the default).")
@click.option("--execute", is_flag=True, help="Do it.")
@directory_option
@json_option
def reset_offsets(
    group: str,
    topics: tuple[str, ...],
    all_topics: bool,
    dry_run: bool,
    execute: bool,
    directory: str | None,
    as_json: bool,
    **places: bool | int | str | None,
) -> None:
    """Set the offsets of GROUP, which must have no members. Nothing is done without --execute."""
    place = _one_place(places)
    if execute and dry_run:
        raise click.UsageError("--dry-run and --execute exclude each other")
    if bool(topics) == all_topics:
        raise click.UsageError("say what to reset: --topic TOPIC[:P,P…] or --all-topics")
    with Admin(directory) as admin:
        current = _committed(admin, group)
        partitions = _select(admin, topics, current)
        plan = _plan(admin, partitions, current, place)
        if execute and plan:
            admin.alter_group_offsets(group, {reset.partition: reset.new for reset in plan})
    _show(plan, as_json)
    if not execute:
        note("nothing was changed; add --execute to do it")


def _one_place(places: Mapping[str, bool | int | str | None]) -> tuple[str, bool | int | str]:
    given = [(name, value) for name, value in places.items() if value not in (None, False)]
    if len(given) != 1 or given[0][1] is None:
        names = ", ".join("--" + name.replace("_", "-") for name in places)
        raise click.UsageError(f"say where to, with one of {names}")
    name, value = given[0]
    return name, value


def _committed(admin: Admin, group: str) -> dict[TopicPartition, int]:
    """The group's offsets; a group that does not exist yet has none, and may be given some."""
    try:
        found = admin.list_group_offsets(group)[group]
    except GroupIdNotFoundError:
        return {}
    return {partition: committed.offset for partition, committed in found.items()}


def _select(
    admin: Admin, topics: tuple[str, ...], current: Mapping[TopicPartition, int]
) -> list[TopicPartition]:
    """The partitions that TOPIC or TOPIC:0,2 mean; without topics those that have an offset."""
    if not topics:
        return sorted(current)
    selected: set[TopicPartition] = set()
    for text in topics:
        name, _, numbers = text.partition(":")
        count = len(admin.describe_topics([name])[0]["partitions"])
        chosen = _numbers(numbers) if numbers else range(count)
        for number in chosen:
            if not 0 <= number < count:
                raise UnknownTopicOrPartitionError(
                    f"topic {name!r} has no partition {number}: it has 0 to {count - 1}"
                )
            selected.add(TopicPartition(name, number))
    return sorted(selected)


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a list of partitions such as 0,2") from error


def _plan(
    admin: Admin,
    partitions: list[TopicPartition],
    current: Mapping[TopicPartition, int],
    place: tuple[str, bool | int | str],
) -> list[Reset]:
    starts = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.EARLIEST))
    ends = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
    ranges = {one: LogRange(starts[one].offset, ends[one].offset) for one in partitions}
    name, value = place
    if name == "shift_by":
        return plan_shift(ranges, current, int(value))
    if name == "to_earliest":
        wanted = {one: ranges[one].start for one in partitions}
    elif name == "to_latest":
        wanted = {one: ranges[one].end for one in partitions}
    elif name == "to_offset":
        wanted = dict.fromkeys(partitions, int(value))
    else:
        found = admin.list_partition_offsets(dict.fromkeys(partitions, parse_time_ms(str(value))))
        wanted = {one: found[one].offset for one in partitions}
    return plan_offsets(ranges, current, wanted)


def parse_time_ms(text: str) -> int:
    """An ISO 8601 date and time as milliseconds since the epoch; without a zone it is UTC."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no ISO 8601 time; write 2026-01-31T12:00") from error
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)


def _show(plan: list[Reset], as_json: bool) -> None:
    if as_json:
        print_json([{**reset.partition._asdict(), **_offsets(reset)} for reset in plan])
        return
    print_table(
        ("topic", ">partition", ">now", ">new"),
        [(*reset.partition, reset.current, reset.new) for reset in plan],
    )


def _offsets(reset: Reset) -> dict[str, int | None]:
    return {"current": reset.current, "new": reset.new}
