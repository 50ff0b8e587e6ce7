"""The dead letters of a test, in a list: written and searched by the code that does so on a bus."""

from typing import Any

from workers.dead_letters import DeadLetters
from workers.letters import Header, Source, source_of, told_of
from workers.redriving import DeadLetter
from workers.testing.record import Record


class ListedLetters(DeadLetters):
    """Attribute: `listed`."""

    def __init__(self, topic: str, group: str, listed: list[DeadLetter]) -> None:
        super().__init__(None, topic, group)
        self.listed = listed

    def send(self, record: Any, headers: list[Header]) -> None:
        """Puts it into the list."""
        place, told = len(self.listed), told_of(headers)
        now_ns = int(told["time"]) * 1_000_000
        letter = Record(self.topic, 0, place, now_ns, record.key, record.value, headers)
        self.listed.append(DeadLetter(letter, source_of(headers), told))

    def holds(self, source: Source, timestamp_ms: int) -> bool:
        """True if there is a letter of that record."""
        return any(letter.source == source for letter in self.listed)
