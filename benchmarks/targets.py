"""What a figure is held against, and whether it was reached."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.measure import Results
from benchmarks.pairs import percentile


@dataclass(frozen=True)
class Target:
    """`figure` takes a number from the results; it must be at least or at most `limit`."""

    text: str
    figure: Callable[[Results], float]
    limit: float
    at_most: bool = False

    def verdict(self, results: Results) -> "Verdict":
        """Met, missed, or not measured in this run."""
        try:
            value = self.figure(results)
        except LookupError:
            return Verdict(self.text, self.sign, self.limit, None)
        return Verdict(self.text, self.sign, self.limit, value)

    @property
    def sign(self) -> str:
        """How the figure relates to the limit when the target is met."""
        return "≤" if self.at_most else "≥"


@dataclass(frozen=True)
class Verdict:
    """A target and what was measured; `value` is None if nothing was."""

    text: str
    sign: str
    limit: float
    value: float | None

    @property
    def met(self) -> bool | None:
        """None if it was not measured."""
        if self.value is None:
            return None
        return self.value <= self.limit if self.sign == "≤" else self.value >= self.limit

    @property
    def word(self) -> str:
        """The verdict in one or two words."""
        return {None: "not measured", True: "met", False: "MISSED"}[self.met]


def ratio(measure: str, against: str, against_measure: str = "") -> Callable[[Results], float]:
    """The bus's median ratio to a peer in the same rounds."""
    return lambda results: results.ratio(measure, "bus", against, against_measure)


def median(measure: str, subject: str = "bus") -> Callable[[Results], float]:
    """The median of one series."""

    def figure(results: Results) -> float:
        series = results.get(measure, subject)
        if series is None:
            raise LookupError(f"{measure} of {subject} was not measured")
        return series.median

    return figure


def at_share(measure: str, share: float, subject: str = "bus") -> Callable[[Results], float]:
    """A percentile of one series; `share` is between 0 and 1."""

    def figure(results: Results) -> float:
        series = results.get(measure, subject)
        if series is None:
            raise LookupError(f"{measure} of {subject} was not measured")
        return percentile(series.samples, share)

    return figure
