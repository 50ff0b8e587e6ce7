"""`bus dump`: the header, index and frames of a segment file."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from bus.cli.options import json_option
from bus.cli.output import print_json_line
from bus.dump import dump_segment

#: Characters of a key or value shown without --json.
_SHOWN = 60


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--index", is_flag=True, help="Show the index entries too.")
@click.option("--values/--no-values", default=True, help="Show keys, values and headers.")
@click.option("-n", "--limit", type=click.IntRange(min=0), help="Frames at most.")
@json_option
def dump(file: Path, index: bool, values: bool, limit: int | None, as_json: bool) -> None:
    """Show the frames of segment FILE, hot (.seg) or durable (.log); --json: one object a line.

    Exit codes: 0 shown, up to where the valid frames end; 1 FILE is no segment of this version;
    2 it cannot be read.
    """
    for item in dump_segment(file, index=index, values=values, limit=limit):
        if as_json:
            print_json_line(item)
        else:
            for kind, fields in item.items():
                click.echo(_SHOW[kind](fields))


def _segment(fields: dict[str, Any]) -> str:
    names = ("number", "base_offset", "previous_end", "bytes", "end_offset")
    return "segment  " + "  ".join(f"{name}={fields[name]}" for name in names)


def _index(fields: dict[str, Any]) -> str:
    return f"index    position {fields['position']:>10}  offset {fields['offset']}"


def _frame(fields: dict[str, Any]) -> str:
    time = datetime.fromtimestamp(fields["timestamp"] / 1e9, UTC).isoformat(timespec="milliseconds")
    line = f"{fields['position']:>10}  {fields['type']:<7} offset {fields['offset']:<10}"
    if fields["type"] == "end":
        return f"{line} next segment {fields['next_segment']}"
    shown = [f"{line} {time} {fields['size']:>8} B"]
    for name in ("key", "key_base64", "value", "value_base64"):
        if fields.get(name) is not None:
            text = str(fields[name])
            shown.append(f"{name}={text[:_SHOWN]!r}" + ("…" if len(text) > _SHOWN else ""))
    return "  ".join(shown)


def _end(fields: dict[str, Any]) -> str:
    return f"end at {fields['position']}, next offset {fields['next_offset']}: {fields['reason']}"


_SHOW = {"segment": _segment, "index": _index, "frame": _frame, "end": _end}
