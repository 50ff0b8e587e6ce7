"""Keeps an eye on a running pipeline: how far everything has come, and what must be kept.

For each stage it is a member of the stage's group that claims nothing. So the group is there before
the first record, and a memory topic keeps what the stage has not done although all of its workers
may be dead. It also holds a place in the output of each stage, see pins.py.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import bus
from workers.pipeline.edges import RESULTS, Edges
from workers.pipeline.frontier import Frontier, Places, Reader, thin
from workers.pipeline.graph import Graph, Stage
from workers.pipeline.pins import Pin

Ends = dict[str, dict[tuple[str, int], int]]


@dataclass(frozen=True)
class Edge:
    """A topic as one of its readers sees it. `lag`: records that it has not done."""

    topic: str
    reader: str
    end: int
    done: int

    @property
    def lag(self) -> int:
        return self.end - self.done


class Watch:
    """May be looked at from several threads."""

    def __init__(self, graph: Graph, edges: Edges, positions: Callable[[], Places] | None) -> None:
        """`positions`: how far the results were taken; None if nobody takes them."""
        self._lock = threading.Lock()
        self._is_private = edges.is_private
        self._consumer = bus.Consumer(bootstrap_servers=edges.address, client_id=edges.name)
        self._places = edges.partitions(self._consumer)
        self._members: dict[str, bus.ShareConsumer] = {}
        self._inputs: dict[str, tuple[str, ...]] = {}
        self._outputs: dict[str, str | None] = {}
        self._pins: dict[str, Pin] = {}
        for stage in graph.stages:
            self._join(edges, stage)
        readers = [
            Reader(name, inputs, self._outputs[name], self._low_of(name))
            for name, inputs in self._inputs.items()
        ]
        if positions is not None:
            ends = tuple(topic for one in graph.ends() if (topic := edges.topic_of(one)))
            self._inputs[RESULTS] = ends
            readers.append(Reader(RESULTS, ends, None, positions))
        self._positions = positions
        self._dead_before = {stage: self._dead(stage) for stage in self._members}
        self._sources = tuple(edges.source_topics())
        self._frontier = Frontier(self._sources, readers)
        self._roots: deque[tuple[int, int]] = deque()
        self._root = 0
        self._hold(edges.is_private)

    def _join(self, edges: Edges, stage: Stage) -> None:
        inputs = tuple(edges.formats_before(stage.after))
        self._members[stage.name] = bus.ShareConsumer(
            *inputs,
            bootstrap_servers=edges.address,
            group_id=edges.group_of(stage.name),
            client_id=f"{edges.name} itself",
        )
        self._inputs[stage.name] = inputs
        self._outputs[stage.name] = edges.topic_of(stage)
        self._pins[stage.name] = Pin()

    def _hold(self, is_private: bool) -> None:
        """Takes a place in each output; what is durable stays without."""
        topics = {topic for topic in self._outputs.values() if topic is not None}
        held = [place for topic in topics for place in self._places[topic]] if is_private else []
        if not held:
            return
        self._consumer.assign(held)
        self._consumer.seek_to_beginning()
        self._consumer.pause(*held)
        self._consumer.poll()

    # ------------------------------------------------------------------ looking

    @property
    def tick(self) -> int:
        """The last look."""
        return self._frontier.tick

    @property
    def passed(self) -> int:
        """All that was there at this look has come through."""
        return self._frontier.passed

    def root(self) -> int:
        """Looks: all that came of the records of the source below this offset has come through."""
        passed = self.look()
        with self._lock:
            while self._roots and self._roots[0][0] <= passed:
                self._root = self._roots.popleft()[1]
            return self._root

    def look(self) -> int:
        """Looks, and lets go what need not be kept any more. Returns `passed`.

        Raises the bus's errors.
        """
        with self._lock:
            for member in self._members.values():
                member.commit()  # workers that die all the time would not come to it
            for stage, pin in self._pins.items():
                self._let_go(stage, pin)
            end = max(self._ends(self._sources[0]).values(), default=0)
            passed = self._frontier.look(self._ends)
            self._roots.append((self._frontier.tick, end))
            thin(self._roots)
            return passed

    def _let_go(self, stage: str, pin: Pin) -> None:
        output = self._outputs[stage]
        if output is None or not self._is_private:
            return
        ends = self._ends(output)
        figures = self._figures(stage)
        before = pin.keep_from
        low: Places = {place: one["low"] for place, one in figures.items()}
        given: Places = {place: one["next"] for place, one in figures.items()}
        keep_from = pin.look(ends, given, low)
        if keep_from == before:
            return
        for place in self._places[output]:
            self._consumer.seek(place, keep_from[place])
        self._consumer.poll()  # says where it stands; it takes no records, for it is paused

    def given_up(self, stage: str) -> int:
        """Records of a stage that were given up since the pipeline was started."""
        with self._lock:
            return self._dead(stage) - self._dead_before[stage]

    def _dead(self, stage: str) -> int:
        return sum(one["dead"] for one in self._figures(stage).values())

    def _ends(self, topic: str) -> Places:
        found = self._consumer.end_offsets(self._places[topic])
        return {(place.topic, place.partition): end for place, end in found.items()}

    def _figures(self, stage: str) -> dict[bus.TopicPartition, dict[str, int]]:
        told = self._members[stage].metrics()
        return {
            place: told[f"{place.topic}-{place.partition}"]
            for topic in self._inputs[stage]
            for place in self._places[topic]
        }

    def _low_of(self, stage: str) -> Callable[[], Places]:
        return lambda: {place: one["low"] for place, one in self._figures(stage).items()}

    def edges(self) -> list[Edge]:
        """Every topic with every reader of it, as it is now. Raises the bus's errors."""
        with self._lock:
            return [
                self._edge(topic, reader)
                for reader, topics in self._inputs.items()
                for topic in topics
            ]

    def _edge(self, topic: str, reader: str) -> Edge:
        if reader == RESULTS:
            assert self._positions is not None
            low: Places = self._positions()
        else:
            low = {place: one["low"] for place, one in self._figures(reader).items()}
        places = self._places[topic]
        ends = self._ends(topic)
        return Edge(topic, reader, sum(ends.values()), sum(low.get(place, 0) for place in places))

    def end_of(self, topics: Iterable[str]) -> dict[tuple[str, int], int]:
        """The present ends of topics."""
        with self._lock:
            return {place: end for topic in topics for place, end in self._ends(topic).items()}

    def close(self) -> None:
        """Leaves the groups and the bus."""
        with self._lock:
            handles: Sequence[bus.ShareConsumer | bus.Consumer] = [
                *self._members.values(),
                self._consumer,
            ]
            for handle in handles:
                handle.close()
