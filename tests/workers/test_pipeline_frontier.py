"""How far a pipeline has come, against a model that knows of each record what became of it."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from workers.pipeline.frontier import ENTRIES_MAX, Frontier, Reader
from workers.pipeline.pins import Pin

Place = tuple[str, int]


@dataclass
class Log:
    """A topic: for each record the item of the source that it came from."""

    name: str
    roots: list[int] = field(default_factory=list)

    @property
    def ends(self) -> dict[Place, int]:
        return {(self.name, 0): len(self.roots)}


class Worker:
    """A stage of the model: does any record of its inputs next, and gives 0 to 2 for it."""

    def __init__(self, inputs: list[Log], output: Log | None, draw: random.Random) -> None:
        self.inputs, self.output, self._draw = inputs, output, draw
        self.left: list[tuple[Log, int]] = []
        self._seen = {log.name: 0 for log in inputs}

    def low(self) -> Mapping[Place, int]:
        self._look()
        lows = {(log.name, 0): self._seen[log.name] for log in self.inputs}
        for log, offset in self.left:
            lows[log.name, 0] = min(lows[log.name, 0], offset)
        return lows

    def _look(self) -> None:
        for log in self.inputs:
            self.left += [(log, n) for n in range(self._seen[log.name], len(log.roots))]
            self._seen[log.name] = len(log.roots)

    def step(self) -> None:
        self._look()
        if not self.left:
            return
        log, offset = self.left.pop(self._draw.randrange(len(self.left)))
        if self.output is not None:
            self.output.roots += [log.roots[offset]] * self._draw.randrange(3)


class Model:
    """source ─► a ─► b ─┬─► results, and source ─► c ─┘"""

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)
        names = ("source", "a", "b", "c")
        self.logs = {name: Log(name) for name in names}
        logs = self.logs
        self.workers = {
            "a": Worker([logs["source"]], logs["a"], draw),
            "c": Worker([logs["source"]], logs["c"], draw),
            "b": Worker([logs["a"]], logs["b"], draw),
            "results": Worker([logs["b"], logs["c"]], None, draw),
        }
        self.draw = draw
        self.frontier = Frontier(
            ["source"],
            [
                Reader(name, tuple(log.name for log in one.inputs), _name(one.output), one.low)
                for name, one in self.workers.items()
            ],
        )
        self.fed: list[int] = []  # items at each tick

    def look(self) -> int:
        self.fed.append(len(self.logs["source"].roots))
        return self.frontier.look(lambda topic: self.logs[topic].ends)

    def under_way(self) -> set[int]:
        """Items of which something is still to be done."""
        return {
            log.roots[offset]
            for one in self.workers.values()
            for log, offset in (one.low() and one.left)
        }


def _name(log: Log | None) -> str | None:
    return None if log is None else log.name


@pytest.mark.parametrize("seed", range(20))
def test_a_tick_has_passed_only_if_all_that_was_fed_by_then_has_come_through(seed: int) -> None:
    model = Model(seed)
    passed_while_busy = 0
    for _ in range(1500):
        if model.draw.random() < 0.1:
            source = model.logs["source"].roots
            source.append(len(source))
        model.draw.choice(list(model.workers.values())).step()
        if model.draw.random() < 0.3:
            passed = model.look()
            under_way = model.under_way()
            if passed >= 0 and under_way:
                assert min(under_way) >= model.fed[passed]
                passed_while_busy = max(passed_while_busy, model.fed[passed])
    assert passed_while_busy > 0
    while model.under_way():
        for one in model.workers.values():
            one.step()
    assert model.look() == model.frontier.tick


def test_what_is_kept_of_a_stalled_edge_is_bounded_and_passes_all_the_same() -> None:
    low = {("s", 0): 0}
    frontier = Frontier(["s"], [Reader("a", ("s",), None, lambda: low)])
    for end in range(10 * ENTRIES_MAX):
        assert frontier.look(lambda topic, end=end: {("s", 0): end + 1}) == -1  # type: ignore[misc]
    [edge] = frontier._edges.values()
    assert len(edge.waiting) <= ENTRIES_MAX + 1
    low["s", 0] = 10 * ENTRIES_MAX
    assert frontier.look(lambda topic: {("s", 0): 10 * ENTRIES_MAX}) == frontier.tick


def test_an_output_that_may_be_looked_for_is_kept() -> None:
    pin, draw = Pin(), random.Random(3)
    output: list[int] = []  # for each output the record that it is for
    given, done, hand = 0, set(), []
    for _ in range(3000):
        kind = draw.randrange(4)
        if kind == 0:
            hand.append(given)
            given += 1
        elif kind == 1 and hand:
            output.append(draw.choice(hand))
        elif kind == 2 and len(hand) > 2:
            done.add(hand.pop(draw.randrange(len(hand))))
        if draw.random() < 0.7:
            continue  # the watch looks now and then
        low = next(n for n in range(given + 1) if n not in done)
        keep = pin.look({("o", 0): len(output)}, {("i", 0): given}, {("i", 0): low})
        needed = [at for at, record in enumerate(output) if record in hand]
        if needed:
            assert keep.get(("o", 0), 0) <= min(needed)
    assert pin.keep_from["o", 0] > len(output) // 2
