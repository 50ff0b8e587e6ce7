"""Damage: one thing that is wrong in a bus directory, named so that a person can find it."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class Damage:
    """What is wrong, in which file (relative to the bus directory, or absolute), at which byte."""

    file: str
    position: int
    what: str

    def __str__(self) -> str:
        return f"{self.file} at {self.position}: {self.what}"


@dataclass(slots=True)
class Findings:
    """The damages found so far, and the name of the file that is being looked at."""

    file: str
    damages: list[Damage] = field(default_factory=list)

    def add(self, position: int, what: str) -> None:
        """Note that `what` is wrong at byte `position` of this file."""
        self.damages.append(Damage(self.file, position, what))

    def inside(self, file: str) -> "Findings":
        """The same list of damages, for another file."""
        return Findings(file, self.damages)

    def expect(self, position: int, name: str, found: object, wanted: object) -> bool:
        """Note a damage unless `found` equals `wanted`; returns whether it does."""
        if found == wanted:
            return True
        self.add(position, f"{name} is {found}, expected {wanted}")
        return False
