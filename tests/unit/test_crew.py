"""Partitions share replica processes when there are too many of them for one each."""

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bus.crew import PROCESSES_MAX, share_out


def partitions(count: int) -> Any:
    return [SimpleNamespace(number=number) for number in range(count)]


def test_few_partitions_have_a_process_each() -> None:
    new, added = share_out(partitions(3), [1, 1], 1)
    assert [len(crew) for crew in new] == [1, 1, 1]
    assert added == {}


def test_as_many_as_asked_for_share_one() -> None:
    new, added = share_out(partitions(7), [], 3)
    assert [len(crew) for crew in new] == [3, 3, 1]
    assert added == {}


def test_what_is_too_much_goes_to_the_smallest() -> None:
    sizes = [5] * (PROCESSES_MAX - 1) + [2]
    new, added = share_out(partitions(4), sizes, 1)
    assert new == []
    assert {place: len(more) for place, more in added.items()} == {PROCESSES_MAX - 1: 3, 0: 1}


@given(
    st.integers(0, 2000),
    st.lists(st.integers(1, 40), max_size=PROCESSES_MAX + 20),
    st.integers(1, 50),
)
def test_each_partition_is_served_once_by_not_too_many(
    count: int, sizes: list[int], size: int
) -> None:
    all_of_them = partitions(count)
    new, added = share_out(all_of_them, sizes, size)
    served = [one for crew in new for one in crew] + [
        one for more in added.values() for one in more
    ]
    assert sorted(one.number for one in served) == list(range(count))
    assert len(new) <= max(PROCESSES_MAX - len(sizes), 0)
    assert all(new), "no process has nothing to do"
    assert all(0 <= place < len(sizes) for place in added)
