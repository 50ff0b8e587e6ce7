"""The results as tables for people and as JSON for machines."""

import json
import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Results, Series
from benchmarks.targets import Verdict

PEER_PACKAGES = ("faster-fifo", "iceoryx2", "pyzmq")
COLOURS = {"met": "green", "MISSED": "bold red", "not measured": "dim"}
RECORDS_PER_SECOND = "records/s"
SIZES = {" 100 B": 100, " 1 KiB": 1 << 10, " 64 KiB": 64 << 10, " 1 MiB": 1 << 20}


def machine() -> dict[str, Any]:
    """On what this was measured."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
        "peers": {name: _version(name) for name in PEER_PACKAGES},
    }


def print_tables(console: Console, results: Results, verdicts: Sequence[Verdict]) -> None:
    """One table of figures, one of targets, then the caveats."""
    console.print(_figures(results))
    console.print(_targets(verdicts))
    for note in results.notes:
        console.print(f"• {note}", style="dim", highlight=False)
    about = machine()
    peers = ", ".join(f"{name} {number}" for name, number in about["peers"].items())
    console.print(
        f"{about['cores']} cores, {about['processor']}, Linux {about['kernel']}, "
        f"Python {about['python']}, load average at the end {about['load']}; {peers}",
        style="dim",
        highlight=False,
    )


def write_json(path: Path, results: Results, verdicts: Iterable[Verdict]) -> None:
    """Everything, with every sample."""
    document = {
        "machine": machine(),
        "series": [_series_as_json(series) for series in results.series()],
        "targets": [
            {
                "target": verdict.text,
                "sign": verdict.sign,
                "limit": verdict.limit,
                "value": verdict.value,
                "met": verdict.met,
            }
            for verdict in verdicts
        ],
        "notes": results.notes,
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _series_as_json(series: Series) -> dict[str, Any]:
    return {
        "measure": series.key.measure,
        "subject": series.key.subject,
        "unit": series.unit,
        "median": series.median,
        "samples": series.samples,
    }


def _figures(results: Results) -> Table:
    table = Table(title="Medians", title_justify="left")
    table.add_column("measure")
    table.add_column("subject")
    for heading in ("median", "spread", "bus is", "rounds"):
        table.add_column(heading, justify="right")
    previous = ""
    for series in results.series():
        measure = series.key.measure
        if previous and measure != previous:
            table.add_section()
        table.add_row(
            measure if measure != previous else "",
            series.key.subject,
            amount(series),
            f"{series.spread:.0%}",
            comparison(results, series),
            str(len(series.samples)),
        )
        previous = measure
    return table


def comparison(results: Results, series: Series) -> str:
    """How many times the peer's figure the bus's own is."""
    if series.key.subject == "bus" or not results.get(series.key.measure, "bus"):
        return ""
    return f"{results.ratio(series.key.measure, 'bus', series.key.subject):.2f} times"


def amount(series: Series) -> str:
    """The median with its unit; for records of a known size, the bytes per second too."""
    value = series.median
    if series.unit != RECORDS_PER_SECOND:
        return f"{value:.3g} {series.unit}" if value < 100 else f"{value:,.0f} {series.unit}"
    text = f"{value / 1000:,.1f} k/s" if value < 1e6 else f"{value / 1e6:,.2f} M/s"
    size = next((size for end, size in SIZES.items() if series.key.measure.endswith(end)), 0)
    return f"{text}, {value * size / 1e9:.2f} GB/s" if size else text


def _targets(verdicts: Sequence[Verdict]) -> Table:
    table = Table(title="Targets", title_justify="left")
    table.add_column("target")
    for heading in ("limit", "measured", "verdict"):
        table.add_column(heading, justify="right")
    for verdict in verdicts:
        table.add_row(
            verdict.text,
            f"{verdict.sign} {verdict.limit:g}",
            "" if verdict.value is None else f"{verdict.value:.3g}",
            verdict.word,
            style=COLOURS[verdict.word],
        )
    return table


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
