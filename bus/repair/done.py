"""What a repair did, one line for each thing."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Repair:
    """One thing that was done. `lost`: records, commits or settings are gone for good.

    `kept` is where the bytes are that were there before, "" if nothing was taken away.
    """

    file: str
    what: str
    lost: bool = False
    kept: str = ""

    def __str__(self) -> str:
        kept = f"; what was there is kept as {self.kept}" if self.kept else ""
        return f"{self.file}: {'LOST: ' if self.lost else ''}{self.what}{kept}"


@dataclass(slots=True)
class Log:
    """Everything that one run did, in its order."""

    repairs: list[Repair] = field(default_factory=list)

    def add(self, file: str, what: str, *, lost: bool = False, kept: str = "") -> None:
        """Note one thing."""
        self.repairs.append(Repair(file, what, lost, kept))
