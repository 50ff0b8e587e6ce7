"""What a scenario hands back: series of samples, one sample per round."""

from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True)
class Key:
    """What was measured (`measure`), on whom (`subject`)."""

    measure: str
    subject: str


@dataclass
class Series:
    """The samples of one subject in one measure, in the order of the rounds."""

    key: Key
    unit: str
    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle sample, in `unit`."""
        return median(self.samples)

    @property
    def spread(self) -> float:
        """Distance from the smallest to the largest sample, as a share of the median."""
        middle = self.median
        return (max(self.samples) - min(self.samples)) / middle if middle else 0.0


class Results:
    """All series of one run of the benchmarks, and the notes that belong to them."""

    def __init__(self) -> None:
        self._series: dict[Key, Series] = {}
        self.notes: list[str] = []

    def add(self, measure: str, subject: str, unit: str, sample: float) -> None:
        """Appends one sample; all samples of a series share their unit."""
        key = Key(measure, subject)
        series = self._series.setdefault(key, Series(key, unit))
        if series.unit != unit:
            raise ValueError(f"{measure} of {subject} was in {series.unit}, now in {unit}")
        series.samples.append(sample)

    def note(self, text: str) -> None:
        """Keeps a caveat for the report, once."""
        if text not in self.notes:
            self.notes.append(text)

    def series(self) -> list[Series]:
        """Every series, those of one measure together, else in the order of their first samples."""
        measures = list(dict.fromkeys(key.measure for key in self._series))
        return sorted(self._series.values(), key=lambda one: measures.index(one.key.measure))

    def get(self, measure: str, subject: str) -> Series | None:
        """One series, or None if it was not measured in this run."""
        return self._series.get(Key(measure, subject))

    def ratio(self, measure: str, subject: str, against: str, against_measure: str = "") -> float:
        """Median of the round-by-round ratios of `subject` to `against`.

        `against_measure` names the peer's measure where it is another one. Raises LookupError if
        one of the two was not measured.
        """
        ours = self.get(measure, subject)
        theirs = self.get(against_measure or measure, against)
        if ours is None or theirs is None:
            raise LookupError(f"{measure}: {subject} or {against} was not measured")
        pairs = zip(ours.samples, theirs.samples, strict=False)
        return median(mine / other for mine, other in pairs)
