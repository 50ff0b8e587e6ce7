"""`python -m workers status`: what all workers of this user are doing."""

import click

from workers.cli.output import human_bytes, human_time, print_json, print_table
from workers.cli.screen import task_of
from workers.figures import Statistics, WorkerStatistics, statistics


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def status(as_json: bool) -> None:
    """Show all pools of this user and their workers: what they do and have done.

    Exit codes: 0, also if there is none.
    """
    found = statistics()
    if as_json:
        print_json([one.as_dict() for one in found])
        return
    if not found:
        click.echo("no workers", err=True)
    for one in found:
        _print(one)


def _print(one: Statistics) -> None:
    told = one.description
    topics = ", ".join(told.get("topics", []))
    click.echo(f"{told.get('handler', told.get('kind', '?'))} on {topics}, pid {one.pid}")
    click.echo(
        f"  done {one.done}, retried {one.retried}, dead {one.dead}, timeouts {one.timeouts},"
        f" crashes {one.crashes}, out of memory {one.out_of_memory}, restarts {one.restarts},"
        f" p50 {human_time(one.p50_s)}, p99 {human_time(one.p99_s)}"
    )
    columns = (">worker", ">pid", "state", ">done", ">failed", ">p50", ">p99", ">memory", "task")
    print_table(columns, [_row(worker) for worker in one.workers])


def _row(worker: WorkerStatistics) -> tuple[object, ...]:
    return (
        worker.number,
        worker.pid,
        worker.state,
        worker.done,
        worker.failed,
        human_time(worker.p50_s),
        human_time(worker.p99_s),
        human_bytes(worker.rss_bytes),
        task_of(worker),
    )
