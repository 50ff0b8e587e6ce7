"""The durable files of one partition, put in order: a chain again, with what is lost told in it.

| found | done |
|---|---|
| frames, header, index or seal that do not verify | the file is made anew, from the hot copy too |
| what verifies in no copy, or a file that is missing | a gap frame, in the file before it |
| a file of which nothing verifies | it is moved away; the same |
| the oldest file is missing | a small file that holds a gap |

A torn end of the newest file is no damage: the next start of a broker cuts it.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bus import files
from bus.catalog import Topic
from bus.directory import BusDirectory
from bus.durable import DATA_START, list_segments, number_in, segment_name
from bus.errors import CorruptSegmentError
from bus.native.core import find_good, parse_header
from bus.recovery import scan_tail
from bus.repair.aside import Aside
from bus.repair.done import Log
from bus.repair.image import PAGE, Identity, Image, make_image
from bus.state import OFFSET_STEP, PartitionState, load_state

#: Numbers that are tried for a file whose header is damaged.
_TRIES: Final = 256
_EVERYTHING: Final = 1 << 63
#: A file that holds nothing but a gap.
_SMALL: Final = DATA_START + PAGE


@dataclass(slots=True)
class Segment:
    """A file, and who it is; `is_believed`: its header says so, and verifies."""

    identity: Identity
    data: bytes
    is_believed: bool
    sealed_end: int = 0


class PartitionRepair:
    """One run over one partition. Nobody else has its files open."""

    def __init__(
        self,
        directory: BusDirectory,
        topic: Topic,
        number: int,
        damaged: Iterable[str],
        log: Log,
        aside: Aside,
        progress: Callable[[int], None],
        hot: Mapping[int, bytes] | None = None,
    ) -> None:
        """`damaged`: files in which a check found something. `hot`: segments in RAM, by number;
        with them, only what they make whole is repaired."""
        self._directory = directory
        self._topic = topic
        self._number = number
        self._damaged = set(damaged)
        self._log = log
        self._aside = aside
        self._progress = progress
        self._hot = hot
        self._relative = f"topics/{topic.name}/{number}"
        self._path: Path = directory.path / self._relative

    def run(self) -> None:
        """Raises OSError and BusError if a file cannot be read or written."""
        state = load_state(self._directory, self._topic.name, self._number)
        if state is None or not self._path.is_dir():
            return
        segments = self._identify_all()
        if self._hot is not None:
            self._add_missing(segments)
        else:
            self._fill_front(segments, state)
        for at, segment in enumerate(segments):
            self._progress(len(segment.data))
            behind = segments[at + 1] if at + 1 < len(segments) else None
            self._repair(segment, behind, state)

    def _name(self, base: int) -> str:
        return f"{self._relative}/{segment_name(base)}"

    # --------------------------------------------------------------------------- who is who

    def _identify_all(self) -> list[Segment]:
        """Every file that can be told, oldest first; the others are moved away."""
        known: list[Segment | int] = [self._read(base) for base in list_segments(self._path)]
        found: list[Segment] = []
        for at, one in enumerate(known):
            if isinstance(one, int):
                after = [two for two in known[at + 1 :] if isinstance(two, Segment)]
                told = self._tell(one, found[-1] if found else None, after[0] if after else None)
                if told is None:
                    if self._hot is None:
                        kept = self._aside.move(self._name(one))
                        self._log.add(self._name(one), "nothing in it verifies", kept=kept)
                    continue
                one = told
            if found and one.identity.number <= found[-1].identity.number:
                kept = self._aside.move(self._name(one.identity.base_offset))
                name = self._name(one.identity.base_offset)
                self._log.add(name, "its number is not above the one before it", kept=kept)
                continue
            found.append(one)
        return found

    def _read(self, base: int) -> Segment | int:
        """The segment if its header is good, else the base offset."""
        data = (self._path / segment_name(base)).read_bytes()
        try:
            header = parse_header(data[:DATA_START].ljust(DATA_START, b"\0"))
        except CorruptSegmentError:
            return base
        identity = replace(
            self._identity(header.number, base, header.previous_end, header.bytes),
            created_ns=header.created_ns,
        )
        if header.base_offset != base or header.seed != identity.seed:
            return base
        return Segment(identity, data, True, header.end_offset)

    def _identity(self, number: int, base: int, previous_end: int, size: int) -> Identity:
        return Identity(
            self._directory.bus_id, self._topic.id, self._number, number, base, previous_end, size
        )

    def _tell(self, base: int, before: Segment | None, behind: Segment | None) -> Segment | None:
        """Who a file without a good header is: the number with which its frames verify."""
        data = (self._path / segment_name(base)).read_bytes()
        size = max(-(-len(data) // PAGE) * PAGE, _SMALL)
        most = (behind.identity.base_offset if behind else _EVERYTHING) - 1
        for number in self._candidates(data, before, behind):
            identity = self._identity(number, base, base, size)
            found = find_good(data, start=DATA_START, least=base, most=most, seed=identity.seed)
            hot = (self._hot or {}).get(number, b"")
            if found is not None or (hot and parse_header(hot).base_offset == base):
                return Segment(identity, data, False)
        return None

    def _candidates(self, data: bytes, before: Segment | None, behind: Segment | None) -> list[int]:
        raw = number_in(data)
        first = before.identity.number + 1 if before else 1
        last = behind.identity.number - 1 if behind else first + _TRIES
        near = range(max(first, last - _TRIES), last + 1)
        told = [raw, *(self._hot or {})]
        return [*(one for one in told if first <= one and (not behind or one <= last)), *near]

    # --------------------------------------------------------------------------- the chain

    def _add_missing(self, segments: list[Segment]) -> None:
        """Files that are gone, and whose segments are in RAM still, whole.

        Those that are newer than all on disk are the replica's, unless it had finished them.
        """
        if not segments and self._relative not in self._damaged:
            return
        there = {segment.identity.number for segment in segments}
        newest = max(there, default=0)
        for number, data in sorted((self._hot or {}).items()):
            header = parse_header(data)
            is_older = bool(number < newest and header.end_offset)
            is_newer = number > newest and self._relative in self._damaged
            if number in there or not (is_older or is_newer):
                continue
            if is_older and header.end_offset <= segments[0].identity.previous_end:
                continue  # retention took it
            size, base = header.bytes, header.base_offset
            identity = self._identity(number, base, header.previous_end, size)
            image = make_image(identity, [data], header.end_offset or None, is_open=is_newer)
            if not image.gaps and image.end_offset > base:
                self._write(image, identity, "it was missing; made anew from the hot log")

    def _fill_front(self, segments: list[Segment], state: PartitionState) -> None:
        """What is missing before the oldest file."""
        start = state.log_start_offset
        if segments:
            first = segments[0]
            behind = (
                first.identity.previous_end if first.is_believed else first.identity.base_offset
            )
            number = first.identity.number - 1
        else:
            clean = state.witness
            if clean is None or clean.offset % OFFSET_STEP == 0:
                return
            behind, number = clean.offset, clean.number
        if start >= behind:
            if segments and not segments[0].is_believed:
                segments[0].identity = replace(segments[0].identity, previous_end=behind)
            return
        identity = self._identity(max(number, 1), start, start, _SMALL)
        image = make_image(identity, [], behind)
        self._write(image, identity, "the file was missing; made anew as a gap")
        segments.insert(0, Segment(identity, bytes(image.data), True, behind))

    def _repair(self, segment: Segment, behind: Segment | None, state: PartitionState) -> None:
        end = self._end_of(segment, behind, state)
        name = self._name(segment.identity.base_offset)
        is_sealed = behind is not None or segment.sealed_end
        is_cut = is_sealed and self._hot is None and end not in (None, segment.sealed_end)
        is_damaged = name in self._damaged or not segment.is_believed or is_cut
        if not is_damaged:
            self._chain(segment, behind, segment.sealed_end)
            return
        number = segment.identity.number
        sources = [segment.data] + (
            [self._hot[number]] if self._hot and number in self._hot else []
        )
        is_open = behind is None and (self._hot is not None or end is None)
        image = make_image(segment.identity, sources, end, is_open=is_open)
        if self._hot is not None and (image.gaps or len(sources) == 1):
            return
        source = "made anew from the hot copy" if self._hot else "made anew from its frames"
        self._write(image, segment.identity, source, segment.data)
        self._chain(segment, behind, image.end_offset)

    def _chain(self, segment: Segment, behind: Segment | None, end: int) -> None:
        """A file whose header is lost follows on the one before it."""
        if behind is not None and not behind.is_believed:
            previous_end = min(end, behind.identity.base_offset)
            behind.identity = replace(behind.identity, previous_end=previous_end)

    def _end_of(
        self, segment: Segment, behind: Segment | None, state: PartitionState
    ) -> int | None:
        """The offset that the segment's records must reach; None if only its end frame says so."""
        if behind is None:
            return self._proven_end(segment, state)
        if behind.is_believed:
            return behind.identity.previous_end if _follows(segment, behind) else None
        is_next = behind.identity.number == segment.identity.number + 1
        return None if is_next else behind.identity.base_offset

    def _proven_end(self, segment: Segment, state: PartitionState) -> int | None:
        """Of the newest file: None if what is torn at its end was never acknowledged."""
        if self._hot is not None:
            return None
        clean = state.witness
        if not segment.is_believed:
            return clean.offset if clean and clean.offset % OFFSET_STEP else None
        fd = files.open_directory(self._path)
        try:
            tail = scan_tail(fd, segment.identity.base_offset, clean)
        except CorruptSegmentError:  # cut down to its header
            return clean.offset if clean and clean.offset % OFFSET_STEP else segment.sealed_end
        finally:
            os.close(fd)
        if tail.is_rotten(clean):
            return max(tail.proven_end(clean), tail.kept_offset)
        return tail.next_offset if tail.sealed else None

    def _write(
        self, image: Image, identity: Identity, what: str, before: bytes | None = None
    ) -> None:
        """Put a segment in place; what was there is kept first."""
        name = self._name(identity.base_offset)
        if before is not None and before == bytes(image.data):
            return
        kept = "" if before is None else self._aside.copy(name)
        fd = files.open_directory(self._path)
        try:
            files.write_atomic(fd, segment_name(identity.base_offset), bytes(image.data))
        finally:
            os.close(fd)
        lost = ", ".join(f"{gap.first} to {gap.end - 1}" for gap in image.gaps)
        told = f"; records {lost} are lost, and readers are told" if lost else ""
        self._log.add(name, what + told, lost=bool(lost), kept=kept)


def _follows(segment: Segment, behind: Segment) -> bool:
    """A segment without a record repeats what the one before it says, and has no file."""
    return behind.identity.previous_end >= segment.identity.base_offset
