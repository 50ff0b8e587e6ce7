"""Retention decides by age and by size, as Kafka does: whole segments, oldest first."""

from bus.retention import (
    RetentionPolicy,
    StoredSegment,
    is_expired,
    segments_below,
    segments_to_delete,
)

MS = 1_000_000
NOW = 1_000_000 * MS


def segments(*ages_ms: int, size: int = 100) -> list[StoredSegment]:
    """Segments of ten records each, with their ages, oldest first."""
    return [StoredSegment(i * 10, size, NOW - age * MS) for i, age in enumerate(ages_ms)]


def test_without_limits_everything_stays() -> None:
    assert RetentionPolicy().keeps_all
    assert segments_to_delete(segments(900, 500, 1), RetentionPolicy(), NOW) == 0


def test_segments_older_than_the_limit_go() -> None:
    policy = RetentionPolicy(retention_ms=400)
    assert segments_to_delete(segments(900, 500, 300, 1), policy, NOW) == 2


def test_a_segment_exactly_as_old_as_the_limit_stays() -> None:
    policy = RetentionPolicy(retention_ms=500)
    assert segments_to_delete(segments(500, 1), policy, NOW) == 0


def test_a_young_segment_protects_the_older_ones_behind_it() -> None:
    policy = RetentionPolicy(retention_ms=400)
    assert segments_to_delete(segments(300, 900, 1), policy, NOW) == 0


def test_the_active_segment_is_never_deleted() -> None:
    policy = RetentionPolicy(retention_ms=0, retention_bytes=0)
    assert segments_to_delete(segments(900, 900, 900), policy, NOW) == 2
    assert segments_to_delete(segments(900), policy, NOW) == 0
    assert segments_to_delete([], policy, NOW) == 0


def test_the_log_keeps_at_least_retention_bytes() -> None:
    log = segments(4, 3, 2, 1)
    assert segments_to_delete(log, RetentionPolicy(retention_bytes=400), NOW) == 0
    assert segments_to_delete(log, RetentionPolicy(retention_bytes=301), NOW) == 0
    assert segments_to_delete(log, RetentionPolicy(retention_bytes=300), NOW) == 1
    assert segments_to_delete(log, RetentionPolicy(retention_bytes=150), NOW) == 2


def test_age_and_size_add_up() -> None:
    policy = RetentionPolicy(retention_ms=400, retention_bytes=200)
    assert segments_to_delete(segments(900, 500, 300, 200, 1), policy, NOW) == 3


def test_records_from_the_future_do_not_expire() -> None:
    assert not is_expired(NOW + 5 * MS, RetentionPolicy(retention_ms=0), NOW)
    assert not is_expired(0, RetentionPolicy(), NOW)


def test_segments_wholly_below_an_offset_are_counted() -> None:
    assert segments_below([0, 10, 20], 0) == 0
    assert segments_below([0, 10, 20], 9) == 0
    assert segments_below([0, 10, 20], 10) == 1
    assert segments_below([0, 10, 20], 19) == 1
    assert segments_below([0, 10, 20], 10**6) == 2
    assert segments_below([], 5) == 0
