"""`bus topics`: list, create, describe, alter and delete topics."""

from typing import Any

import click

from bus.admin import Admin
from bus.cli.options import config_option, directory_option, json_option
from bus.cli.output import note, print_json, print_lag, print_table
from bus.errors import TopicAlreadyExistsError
from bus.structs import NewTopic


@click.group()
def topics() -> None:
    """List, create, describe, alter and delete topics.

    Exit codes: 0 done; 1 the bus said no (unknown topic, exists already, …); 2 wrong usage.
    """


@topics.command("list")
@directory_option
@json_option
def list_topics(directory: str | None, as_json: bool) -> None:
    """Print the names of all topics."""
    with Admin(directory) as admin:
        names = admin.list_topics()
    if as_json:
        print_json(names)
    else:
        for name in names:
            click.echo(name)


@topics.command()
@click.argument("name")
@click.option("-p", "--partitions", type=int, default=-1, help="[default: the broker's]")
@config_option
@click.option("--if-not-exists", is_flag=True, help="Do nothing if the topic exists.")
@click.option("--validate-only", is_flag=True, help="Only say whether it could be created.")
@directory_option
def create(
    name: str,
    partitions: int,
    configs: dict[str, str],
    if_not_exists: bool,
    validate_only: bool,
    directory: str | None,
) -> None:
    """Create topic NAME."""
    with Admin(directory) as admin:
        try:
            created = admin.create_topics(
                [NewTopic(name, partitions, topic_configs=configs)], validate_only=validate_only
            )["topics"][0]
        except TopicAlreadyExistsError:
            if not if_not_exists:
                raise
            note(f"topic {name} exists already")
            return
    verb = "could be created" if validate_only else "created"
    note(f"topic {name} {verb} with {created['num_partitions']} partitions")


@topics.command()
@click.argument("names", nargs=-1, metavar="[NAME…]")
@directory_option
@json_option
def describe(names: tuple[str, ...], directory: str | None, as_json: bool) -> None:
    """Show configs, offsets and replicas of the topics named, or of all."""
    with Admin(directory) as admin:
        found = admin.describe_topics(names or None)
    if as_json:
        print_json(found)
        return
    for topic in found:
        print_topic(topic)


def print_topic(topic: dict[str, Any]) -> None:
    """One topic for people."""
    click.echo(f"{topic['name']}  (id {topic['topic_id']})")
    click.echo("  " + "  ".join(f"{key}={value}" for key, value in topic["configs"].items()))
    print_table(
        (">partition", ">log start", ">log end", ">durable", ">replica pid"),
        [
            (
                one["partition_index"],
                one["log_start_offset"],
                one["log_end_offset"],
                one["high_watermark"],
                one["replica_pid"] or "none",
            )
            for one in topic["partitions"]
        ],
    )
    print_lag(topic["lag"])


@topics.command()
@click.argument("name")
@config_option
@click.option("--reset", "resets", multiple=True, metavar="KEY", help="Set KEY to its default.")
@click.option("-p", "--partitions", type=int, help="Grow to so many partitions in total.")
@directory_option
def alter(
    name: str,
    configs: dict[str, str],
    resets: tuple[str, ...],
    partitions: int | None,
    directory: str | None,
) -> None:
    """Change configs of topic NAME, or give it more partitions.

    --config acl.read=user:alice,group:staff (and acl.write) lets other users in; --reset acl.read
    keeps them out again.
    """
    changes: dict[str, object] = {**configs, **dict.fromkeys(resets)}
    if not changes and partitions is None:
        raise click.UsageError("nothing to change: give --config, --reset or --partitions")
    with Admin(directory) as admin:
        if changes:
            admin.alter_configs({name: changes})
        if partitions is not None:
            admin.create_partitions({name: partitions})
    note(f"topic {name} altered")


@topics.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.option("--if-exists", is_flag=True, help="Pass over topics that do not exist.")
@directory_option
def delete(names: tuple[str, ...], if_exists: bool, directory: str | None) -> None:
    """Delete topics with all their records."""
    with Admin(directory) as admin:
        present = set(admin.list_topics())
        wanted = [name for name in names if name in present or not if_exists]
        if wanted:
            admin.delete_topics(wanted)
    note(f"deleted: {', '.join(wanted) or 'nothing'}")
