"""Notes of attempts between a worker, which writes them, and its supervisor, which sends them.

    0     written   bytes that the worker has written since the board was made (u64)
    8     taken     bytes that the supervisor has taken
    16    lost      notes for which there was no room
    64    notes     one after the other, around the end of the ring

The worker writes a note first and `written` after it, so a worker that is killed leaves whole
notes, and all that it wrote before. A ring that is full loses the newest note, and counts it: the
supervisor takes what is there ten times a second, and sooner if it is called.
"""

from struct import Struct
from typing import Final

#: For each worker: some 5,000 attempts.
RING_BYTES: Final = 256 << 10
_HEAD_BYTES: Final = 64
_WRITTEN, _TAKEN, _LOST = 0, 1, 2


class FlightRing:
    """One ring, in either process."""

    def __init__(self, memory: memoryview) -> None:
        self._head = memory[:_HEAD_BYTES].cast("Q")
        self._notes = memory[_HEAD_BYTES:]
        self._size = len(self._notes)
        self.half = self._size // 2
        #: up to where the worker need not look at `taken`: the ring is half full then, at most
        self._room_to = 0

    # ------------------------------------------------------------------ for the worker

    def put_packed(self, layout: Struct, *fields: int) -> int:
        """As put(layout.pack(*fields)), packed in place; 0 while the ring is less than half full.

        This is on the path of every task: it reads one word, and writes the note and that word.
        """
        written: int = self._head[_WRITTEN]
        at, after = written % self._size, written + layout.size
        if after > self._room_to or at + layout.size > self._size:
            return self.put(layout.pack(*fields))
        layout.pack_into(self._notes, at, *fields)
        self._head[_WRITTEN] = after
        return 0

    def put(self, note: bytes) -> int:
        """Writes a note if there is room; returns how many bytes wait to be taken."""
        head, size = self._head, self._size
        written, taken = head[_WRITTEN], head[_TAKEN]
        self._room_to = taken + self.half
        waiting = written - taken + len(note)
        if waiting > size:
            head[_LOST] += 1
            return size
        at = written % size
        end = at + len(note)
        if end <= size:
            self._notes[at:end] = note
        else:
            self._notes[at:size] = note[: size - at]
            self._notes[: end - size] = note[size - at :]
        head[_WRITTEN] = written + len(note)
        return int(waiting)

    # ------------------------------------------------------------------ for the supervisor

    def take(self) -> bytes:
        """All notes that wait."""
        head, size = self._head, self._size
        written, taken = head[_WRITTEN], head[_TAKEN]
        if written == taken:
            return b""
        at, count = taken % size, written - taken
        if count > size:  # a wild program has written here: nothing of it is believed
            head[_TAKEN] = written
            return b""
        found = bytes(self._notes[at : min(at + count, size)])
        found += bytes(self._notes[: count - len(found)])
        head[_TAKEN] = written
        return found

    @property
    def lost(self) -> int:
        """Notes for which there was no room, since the board was made."""
        return int(self._head[_LOST])
