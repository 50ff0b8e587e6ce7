"""The durable log of one partition: its segments as a chain, and the watermark against them.

A chain is right if and only if numbers ascend, every segment but the last ends with an end frame
that names the next number, and each segment's `previous_end` is where the one before it ended. A
`base_offset` above `previous_end` is a known gap (a recovery skipped offsets that may have been
given out), not damage.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from bus.check.damage import Findings
from bus.check.files import mapped, number_in
from bus.check.segment import HEADER, Expected, SegmentFacts, check_segment
from bus.check.truth import read_object
from bus.directory import BusDirectory
from bus.errors import UnsafeDirectoryError
from bus.retention import segments_below
from bus.state import OFFSET_STEP

#: An offset above all: a segment that is not the last must be whole to its end frame.
_EVERYTHING = 2**63


@dataclass(frozen=True, slots=True)
class State:
    """What `state.json` says: bounds of the log, and its end if the bus was stopped cleanly."""

    log_start_offset: int
    offset_limit: int
    clean_end: tuple[int, int] | None
    #: records up to there were on disk
    durable_end: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class DurableLog:
    """The durable segments of a partition, oldest first, and their files by number."""

    segments: tuple[SegmentFacts, ...]
    files: Mapping[int, Path]
    state: State | None
    end_offset: int


def check_partition(
    bus: BusDirectory,
    directory: Path,
    expected: Expected,
    watermark: int | None,
    findings: Findings,
    progress: Callable[[int], None],
) -> DurableLog:
    """Check state.json and every durable segment of the partition in `directory` of `bus`.

    `watermark` is the high watermark, read before the call: every record below it must be here.
    None: there is no hot tier, state.json says where the log ended.
    """
    state = read_state(bus, findings.inside(f"{findings.file}/state.json"))
    certain = _certain_offset(watermark, state)
    listed = sorted(directory.glob("*.log"))
    segments: list[SegmentFacts] = []
    files: dict[int, Path] = {}
    for file in listed:
        last = file == listed[-1]
        wanted = dataclasses.replace(expected, certain_offset=certain if last else _EVERYTHING)
        facts = _check_file(file, wanted, findings.inside(f"{findings.file}/{file.name}"), progress)
        if facts:
            segments.append(facts)
            files[facts.number] = file
    check_chain(_kept(segments, state), findings)
    end = segments[-1].next_offset if segments else 0
    if state is not None:
        _check_bounds(state, segments, end, findings)
    if watermark is not None:
        _check_watermark(watermark, segments, end, findings)
    elif state is not None and state.clean_end is not None:
        _check_clean_end(state.clean_end, state.log_start_offset, segments, findings)
    elif state is not None and state.durable_end is not None:
        _check_durable_end(state.durable_end[0], state.log_start_offset, segments, findings)
    return DurableLog(tuple(segments), files, state, end)


def _certain_offset(watermark: int | None, state: State | None) -> int:
    if watermark is not None:
        return watermark
    witness = state and (state.clean_end or state.durable_end)
    return witness[0] if witness else 0


def _check_file(
    file: Path, expected: Expected, findings: Findings, progress: Callable[[int], None]
) -> SegmentFacts | None:
    try:
        with mapped(file) as data:
            facts = check_segment(data, expected, findings, progress)
    except FileNotFoundError:  # retention removed it since it was listed
        return None
    except UnsafeDirectoryError as error:
        findings.add(0, str(error))
        return None
    if facts and file.name != f"{facts.base_offset:020d}.log":
        at = HEADER.offsets["base_offset"]
        findings.add(at, f"base_offset is {facts.base_offset}, the file is named {file.name}")
    return facts


def _kept(segments: list[SegmentFacts], state: State | None) -> list[SegmentFacts]:
    """Those that retention has left: of the others, a power loss may bring back any."""
    start = state.log_start_offset if state else 0
    return segments[segments_below([one.base_offset for one in segments], start) :]


def check_chain(
    segments: Sequence[SegmentFacts], findings: Findings, *, dense: bool = False
) -> None:
    """Each segment must follow the one before it: number, offsets, end frame.

    `dense` numbers follow each other by one, as in the hot ring. On disk a number may be missing:
    a segment that was sealed without any record gets no file.
    """
    for before, after in pairwise(segments):
        name = f"segment {after.number}"
        at = HEADER.offsets
        skipped = after.number - before.number - 1
        if skipped < 0 or (skipped and dense):
            findings.add(at["number"], f"{name} follows segment {before.number}")
        # A segment without a record has no durable file; the next one carries its gap on.
        empty = before.base_offset == before.next_offset
        wrong = after.previous_end != (before.previous_end if empty else before.next_offset)
        if wrong:
            what = f"previous_end {after.previous_end}, the one before ends at {before.next_offset}"
            findings.add(at["previous_end"], f"{name} says {what}")
        if before.sealed and before.next_number != before.number + 1:
            what = f"end frame of segment {before.number} names segment {before.next_number}"
            findings.add(before.end_position, f"{what}, not {before.number + 1}")


def read_state(bus: BusDirectory, findings: Findings) -> State | None:
    """What a state.json says; None if it is missing or damaged, which is noted."""
    values = read_object(bus, findings.file, findings)
    if values is None:
        return None
    start = number_in(values, "log_start_offset", findings)
    limit = number_in(values, "offset_limit", findings)
    if start is None or limit is None:
        return None
    ends = (_read_end(values, name, findings) for name in ("clean_end", "durable_end"))
    return State(start, limit, *ends)


def _read_end(values: dict[str, Any], name: str, findings: Findings) -> tuple[int, int] | None:
    value = values.get(name)
    if value is None:
        return None
    if not isinstance(value, dict):
        findings.add(0, f"{name} is {value!r}, expected null or an object")
        return None
    offset = number_in(value, "offset", findings)
    number = number_in(value, "number", findings, least=1)
    return None if offset is None or number is None else (offset, number)


def _check_bounds(
    state: State, segments: Sequence[SegmentFacts], end: int, findings: Findings
) -> None:
    where = findings.inside(f"{findings.file}/state.json")
    if end > state.offset_limit:
        what = f"offset_limit {state.offset_limit} is below the log end {end}"
        where.add(0, f"{what}: a recovery could give offsets out twice")
    if segments and segments[0].previous_end > state.log_start_offset:
        first, start = segments[0].previous_end, state.log_start_offset
        where.add(0, f"log_start_offset is {start}, the oldest segment follows offset {first}")
    # Above the durable end is right after a power loss that took records which had been deleted.
    last = state.clean_end[0] if state.clean_end else max(end, state.offset_limit)
    if state.log_start_offset > last:
        where.add(0, f"log_start_offset {state.log_start_offset} is beyond the log end {last}")


def _check_watermark(
    watermark: int, segments: Sequence[SegmentFacts], end: int, findings: Findings
) -> None:
    first = segments[0].previous_end if segments else 0
    if segments and end < watermark and segments[-1].base_offset < watermark:
        findings.add(0, f"the high watermark is {watermark}, the durable log ends at {end}")
    elif not segments and first < watermark:
        findings.add(0, f"the high watermark is {watermark}, there is no durable segment")


def _check_durable_end(
    offset: int, start: int, segments: Sequence[SegmentFacts], findings: Findings
) -> None:
    end = segments[-1].next_offset if segments else start
    if end < offset:
        findings.add(0, f"records {end} to {offset - 1} were on disk, their file is not")


def _check_clean_end(
    clean_end: tuple[int, int], start: int, segments: Sequence[SegmentFacts], findings: Findings
) -> None:
    offset, number = clean_end
    where = findings.inside(f"{findings.file}/state.json")
    end = segments[-1].next_offset if segments else start
    # Skipped offsets end at a whole step: any other end is one of records.
    if offset > end and offset % OFFSET_STEP and not (segments and segments[-1].number == number):
        findings.add(0, f"records {end} to {offset - 1} were there at the stop, their file is not")
        return
    if not segments:
        return
    last = segments[-1]
    if number == last.number:
        where.expect(0, "clean_end.offset", offset, last.next_offset)
    elif number < last.number or offset < last.next_offset:
        # A higher number: the last hot segment had no record, so it got no durable file.
        where.add(
            0,
            f"clean_end is offset {offset} in segment {number}, the durable log ends at"
            f" {last.next_offset} in segment {last.number}",
        )
