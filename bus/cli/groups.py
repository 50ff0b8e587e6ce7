"""`bus groups`: list, describe and delete consumer groups; reset their offsets."""

from typing import Any, Final

import click

from bus.admin import Admin
from bus.cli.options import directory_option, json_option
from bus.cli.output import note, print_json, print_table
from bus.cli.reset_offsets import reset_offsets
from bus.structs import TopicPartition

#: by whether a group that counts holds producers up; None: it does not count
_PRODUCERS: Final = {None: None, False: "limited", True: "held up"}
#: of a partition of a share group
_FIGURES = ("low", "next", "in_flight", "ready", "delayed", "waiting", "overtaken", "dead")


@click.group()
def groups() -> None:
    """List, describe and delete consumer groups; reset their offsets.

    Exit codes: 0 done; 1 the bus said no (unknown group, it has members, …); 2 wrong usage.
    """


groups.add_command(reset_offsets)


@groups.command("list")
@directory_option
@json_option
def list_groups(directory: str | None, as_json: bool) -> None:
    """Print all groups with their kind (consumer or share), state and number of members."""
    with Admin(directory) as admin:
        found = admin.list_groups()
    if as_json:
        print_json(found)
        return
    rows = [
        (one["group_id"], one["protocol_type"], one["group_state"], one["members"]) for one in found
    ]
    print_table(("group", "kind", "state", ">members"), rows)


@groups.command()
@click.argument("group")
@directory_option
@json_option
def describe(group: str, directory: str | None, as_json: bool) -> None:
    """Show the members of GROUP, what each one owns, and how far it lags behind.

    Of a share group also, per partition: how far all is done and given out, and how many records
    are in somebody's hands, came back, are delayed, wait for an older one of their key, were
    overtaken, and were rejected.
    """
    with Admin(directory) as admin:
        found = describe_lag(admin, group)
    if as_json:
        print_json(found)
        return
    mode = f", mode {found['mode']}" if found["mode"] else ""
    click.echo(f"{group}: {found['state']}, generation {found['generation']}{mode}")
    print_table(
        ("topic", ">partition", ">committed", ">log end", ">lag", "producers", "owner"),
        [
            (
                one["topic"],
                one["partition"],
                one["committed"],
                one["log_end_offset"],
                one["lag"],
                one["producers"],
                one["owner"],
            )
            for one in found["partitions"]
        ],
    )
    if found["shares"]:
        print_table(
            ("topic", *(f">{name}" for name in ("partition", *_FIGURES))),
            [
                (one["topic"], one["partition"], *(one[name] for name in _FIGURES))
                for one in found["shares"]
            ],
        )
    print_table(
        ("member", "client", ">pid", "partitions"),
        [
            (one["member_id"], one["client_id"], one["pid"], " ".join(one["partitions"]) or None)
            for one in found["members"]
        ],
    )


def describe_lag(admin: Admin, group: str) -> dict[str, Any]:
    """A group's state, members and, per partition, committed offset, log end, lag and owner.

    "producers": whether those of the topic wait for this group (max.lag.groups).
    """
    described = admin.describe_groups([group])[group]
    committed = admin.list_group_offsets(group)[group]
    owners = {
        partition: f"pid {member['pid']} ({member['client_id']})"
        for member in described["members"]
        for partition in member["partitions"]
    }
    partitions = sorted({*committed, *owners})
    topics = _topics(admin, {partition.topic for partition in partitions})
    ends = _log_ends(topics)
    limited = {
        TopicPartition(row["topic"], row["partition"]): row["holds_up"]
        for topic in topics
        for row in topic["lag"]
        if row["group"] == group
    }
    rows = []
    for partition in partitions:
        offset = committed[partition].offset if partition in committed else None
        end = ends.get(partition)
        rows.append(
            {
                "topic": partition.topic,
                "partition": partition.partition,
                "committed": offset,
                "log_end_offset": end,
                "lag": None if offset is None or end is None else max(0, end - offset),
                "producers": _PRODUCERS[limited.get(partition)],
                "owner": owners.get(partition),
            }
        )
    return {
        "group": group,
        "state": described["group_state"],
        "generation": described["generation"],
        "mode": described["mode"],
        "partitions": rows,
        "shares": [
            {"topic": partition.topic, "partition": partition.partition, **figures}
            for partition, figures in sorted(admin.describe_shares(group).items())
        ],
        "members": [_plain_member(member) for member in described["members"]],
    }


def _plain_member(member: dict[str, Any]) -> dict[str, Any]:
    owned = [f"{partition.topic}:{partition.partition}" for partition in member["partitions"]]
    return {**member, "partitions": owned}


def _topics(admin: Admin, names: set[str]) -> list[dict[str, Any]]:
    return admin.describe_topics(sorted(names & set(admin.list_topics())))


def _log_ends(topics: list[dict[str, Any]]) -> dict[TopicPartition, int]:
    return {
        TopicPartition(topic["name"], one["partition_index"]): one["log_end_offset"]
        for topic in topics
        for one in topic["partitions"]
    }


@groups.command()
@click.argument("names", nargs=-1, required=True, metavar="GROUP…")
@directory_option
def delete(names: tuple[str, ...], directory: str | None) -> None:
    """Delete groups without members, with their offsets."""
    with Admin(directory) as admin:
        admin.delete_groups(names)
    note(f"deleted: {', '.join(names)}")
