"""`bus bench`: the quick throughput and latency figures of this machine."""

from dataclasses import asdict

import click
from rich.console import Console

from bus.bench import Figure, measure
from bus.cli.options import json_option
from bus.cli.output import human_bytes, human_rate, print_json, print_table
from bus.cli.temporary import own_or_given_bus


@click.command()
@click.option("-d", "--dir", "directory", help="Use this bus.  [default: an own one]")
@click.option(
    "--scale",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Multiplies the numbers of records.",
)
@json_option
def bench(directory: str | None, scale: float, as_json: bool) -> None:
    """Measure sending and reading between two processes, round trips and durable sends.

    Exit codes: 0 measured; 1 the bus failed; 2 wrong usage.
    """
    console = Console(stderr=True)
    figures = []
    with own_or_given_bus(directory, "bench") as path, console.status("measuring") as status:
        for figure in measure(path, scale):
            figures.append(figure)
            status.update(f"measured {figure.name}: {readable(figure)}")
    if as_json:
        print_json([asdict(figure) for figure in figures])
    else:
        print_table(("", ">figure"), [(figure.name, readable(figure)) for figure in figures])


def readable(figure: Figure) -> str:
    """A figure for people: 1.23 M/s, 4.5 GiB/s, 12.3 µs."""
    if figure.unit == "s":
        return f"{figure.value * 1e6:.1f} µs"
    if figure.unit == "bytes/s":
        return f"{human_bytes(figure.value)}/s"
    return human_rate(figure.value)
