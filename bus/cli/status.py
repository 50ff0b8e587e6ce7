"""`bus status`: who runs, who is attached, what it costs."""

from pathlib import Path
from typing import Any

import click

from bus.cli.options import directory_argument, json_option
from bus.cli.output import human_bytes, print_json, print_lag, print_table
from bus.control import ControlClient
from bus.directory import BusDirectory
from bus.errors import BrokerNotRunningError


@click.command()
@directory_argument
@json_option
@click.pass_context
def status(context: click.Context, directory: str | None, as_json: bool) -> None:
    """Show the broker of the bus in DIR, its replicas and clients, memory and disk.

    Exit codes: 0 a broker runs; 1 none runs; 2 there is no bus in DIR.
    """
    with BusDirectory.open(directory) as opened:
        try:
            found = ask_status(opened)
        except BrokerNotRunningError:
            if not as_json:
                raise
            print_json({"broker": None, "data_dir": str(opened.path)})
            context.exit(1)
    if as_json:
        print_json(found)
    else:
        print_status(found)


def ask_status(directory: BusDirectory) -> dict[str, Any]:
    """The broker's status with the bytes in memory and on disk. Takes no client slot.

    Raises BrokerNotRunningError.
    """
    control = ControlClient(directory)
    try:
        found = control.call("status")
    finally:
        control.close()
    found["memory_bytes"] = stored_bytes(Path(found["hot_dir"]))
    found["disk_bytes"] = stored_bytes(directory.path)
    return found


def stored_bytes(path: Path) -> int:
    """Bytes that the files below a directory really take (blocks, not sizes)."""
    total = 0
    for file in path.rglob("*"):
        try:
            total += file.lstat().st_blocks * 512
        except FileNotFoundError:  # a segment that was removed meanwhile
            continue
    return total


def print_status(found: dict[str, Any]) -> None:
    """The status as tables for people."""
    broker = found["broker"]
    rows: list[tuple[str, object]] = [
        ("broker", f"pid {broker['pid']}, epoch {broker['epoch']}, version {broker['version']}"),
        ("started", broker["started"]),
        ("data", f"{found['data_dir']}  ({human_bytes(found['disk_bytes'])})"),
        ("hot", f"{found['hot_dir']}  ({human_bytes(found['memory_bytes'])})"),
    ]
    rows += [(name.replace("_", " "), value) for name, value in found["counters"].items()]
    print_table(("bus", ""), rows)
    print_table(
        ("topic", ">partition", ">replica pid", ">log end", ">durable", ">behind", ">restarts"),
        [
            (
                replica["topic"],
                replica["partition"],
                replica["pid"] or "none",
                replica["log_end_offset"],
                replica["high_watermark"],
                replica["log_end_offset"] - replica["high_watermark"],
                replica["restarts"],
            )
            for replica in found["replicas"]
        ],
    )
    print_lag(found["lag"])
    print_table(
        (">pid", "client", "role"),
        [(one["pid"], one["client_id"], one["role"]) for one in found["clients"]],
    )
