"""Medians, ratios and verdicts are what the page says they are."""

import pytest

from benchmarks.markdown import page
from benchmarks.measure import Results
from benchmarks.targets import Target, median, ratio


def results_of(ours: list[float], theirs: list[float]) -> Results:
    results = Results()
    for mine, other in zip(ours, theirs, strict=True):
        results.add("speed 100 B", "bus", "records/s", mine)
        results.add("speed 100 B", "peer", "records/s", other)
    return results


def test_a_ratio_is_taken_within_each_round_before_its_median() -> None:
    # In the slow second round both are slow; the medians alone would say 3.
    results = results_of([300.0, 20.0, 400.0], [100.0, 10.0, 80.0])
    assert results.ratio("speed 100 B", "bus", "peer") == 3.0
    results = results_of([300.0, 20.0, 90.0], [100.0, 10.0, 80.0])
    assert results.ratio("speed 100 B", "bus", "peer") == 2.0


def test_a_target_that_was_not_measured_is_neither_met_nor_missed() -> None:
    verdict = Target("speed", ratio("other", "peer"), 2).verdict(results_of([1.0], [1.0]))
    assert verdict.met is None
    assert verdict.word == "not measured"


@pytest.mark.parametrize(
    ("limit", "at_most", "met"), [(2, False, True), (4, False, False), (4, True, True)]
)
def test_a_target_is_met_on_its_own_side_of_the_limit(
    limit: float, at_most: bool, met: bool
) -> None:
    results = results_of([3.0], [1.0])
    assert Target("speed", median("speed 100 B"), limit, at_most).verdict(results).met is met


def test_samples_of_a_series_share_their_unit() -> None:
    results = results_of([1.0], [1.0])
    with pytest.raises(ValueError, match="records/s"):
        results.add("speed 100 B", "bus", "µs", 1.0)


def test_the_page_names_what_was_missed() -> None:
    results = results_of([3_000_000.0], [1_000_000.0])
    results.note("a caveat")
    verdicts = [Target("three times", ratio("speed 100 B", "peer"), 4).verdict(results)]
    text = page(results, verdicts)
    assert "| three times | ≥ 4 | 3 | **MISSED** |" in text
    assert "| speed 100 B | bus | 3.00 M/s, 0.30 GB/s | 0% |  | 1 |" in text
    assert "3.00 times" in text
    assert "- a caveat" in text
