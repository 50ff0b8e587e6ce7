"""The results as a page for docs/: targets, figures, caveats."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from benchmarks.measure import Results
from benchmarks.report import amount, comparison, machine
from benchmarks.targets import Verdict

HEAD = """# Benchmarks

Written by `python -m benchmarks --markdown docs/benchmarks.md` (`tox -e bench` runs the same). Each
figure is the median of several rounds; in a round the bus and its peers take turns, and a ratio is
the median of the ratios within the rounds. Every payload is written by one process and read by
another.
"""


def page(results: Results, verdicts: Sequence[Verdict]) -> str:
    """The whole page."""
    parts = [HEAD, *_machine(), "", "## Targets", "", *_targets(verdicts)]
    parts += ["", "## Figures", "", *_figures(results)]
    if results.notes:
        parts += ["", "## Caveats", "", *(f"- {note}" for note in results.notes)]
    return "\n".join(parts) + "\n"


def _machine() -> Iterator[str]:
    about = machine()
    peers = ", ".join(f"{name} {number}" for name, number in about["peers"].items())
    yield (
        f"Measured on {datetime.now(UTC):%Y-%m-%d}: {about['cores']} cores, {about['processor']}, "
        f"Linux {about['kernel']}, Python {about['python']}, load average at the end "
        f"{about['load']}; {peers}."
    )


def _targets(verdicts: Sequence[Verdict]) -> Iterator[str]:
    yield "| target | limit | measured | verdict |"
    yield "|---|---:|---:|---|"
    for verdict in verdicts:
        value = "" if verdict.value is None else f"{verdict.value:.3g}"
        word = f"**{verdict.word}**" if verdict.met is False else verdict.word
        yield f"| {verdict.text} | {verdict.sign} {verdict.limit:g} | {value} | {word} |"


def _figures(results: Results) -> Iterator[str]:
    yield "| measure | subject | median | spread | the bus is | rounds |"
    yield "|---|---|---:|---:|---:|---:|"
    previous = ""
    for series in results.series():
        measure = series.key.measure
        yield (
            f"| {measure if measure != previous else ''} | {series.key.subject} | {amount(series)} "
            f"| {series.spread:.0%} | {comparison(results, series)} | {len(series.samples)} |"
        )
        previous = measure
