"""`python -m benchmarks`: one command, one run, a table and JSON."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

try:
    from benchmarks.registry import Scenario, chosen
except ImportError as missing:
    print(f"{missing}; install the peers with: pip install '.[bench]'", file=sys.stderr)
    raise SystemExit(2) from missing

import bus
from benchmarks.markdown import page
from benchmarks.measure import Results
from benchmarks.report import print_tables, write_json
from benchmarks.stage import Stage, stderr_to

FULL_ROUNDS = 5
QUICK_ROUNDS = 3
FULL_SECONDS = 1.0
QUICK_SECONDS = 0.3


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Fewer and shorter rounds: an impression, no figures.")
@click.option("--only", multiple=True, metavar="NAME", help="Only this scenario; may be repeated.")
@click.option("--rounds", type=click.IntRange(1, 100), help="Samples of every series.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all samples.")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="Write a page.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the bus writes to disk; a temporary directory by default.",
)
@click.option("--list", "list_only", is_flag=True, help="List the scenarios and end.")
def main(
    quick: bool,
    only: tuple[str, ...],
    rounds: int | None,
    json_file: Path | None,
    markdown_file: Path | None,
    directory: Path | None,
    list_only: bool,
) -> None:
    """Measures the bus and its peers in turns and checks the targets; exit code 1 if one is missed.

    Needs a quiet machine and some GiB of disk. The full run takes about twenty minutes.
    """
    try:
        scenarios = chosen(only)
    except KeyError as error:
        raise click.UsageError(str(error.args[0])) from error
    console = Console(width=None if sys.stdout.isatty() else 110)
    if list_only:
        for scenario in scenarios:
            console.print(f"{scenario.name:12}{scenario.title}", highlight=False)
        return
    results = measure(scenarios, quick, rounds, directory)
    targets = [target for scenario in scenarios for target in scenario.targets]
    verdicts = [target.verdict(results) for target in targets]
    print_tables(console, results, verdicts)
    if json_file:
        write_json(json_file, results, verdicts)
    if markdown_file:
        markdown_file.write_text(page(results, verdicts), encoding="utf-8")
    sys.exit(int(any(verdict.met is False for verdict in verdicts)))


def measure(
    scenarios: Sequence[Scenario], quick: bool, rounds: int | None, directory: Path | None
) -> Results:
    """Runs the scenarios one after another on a bus of their own."""
    with (
        tempfile.TemporaryDirectory(prefix="bus-bench-", dir=directory) as scratch,
        stderr_to(Path(scratch) / "brokers.log") as progress,
    ):
        stage = Stage(
            rounds=rounds or (QUICK_ROUNDS if quick else FULL_ROUNDS),
            seconds=QUICK_SECONDS if quick else FULL_SECONDS,
            quick=quick,
            path=Path(scratch) / "bus",
            scratch=Path(scratch),
            progress=progress,
        )
        with bus.Broker(stage.path):
            for scenario in scenarios:
                scenario.run(stage)
        return stage.results


if __name__ == "__main__":
    main()
