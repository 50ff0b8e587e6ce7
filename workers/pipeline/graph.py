"""The shape of a pipeline: sources, stages, and who reads whom. Pure.

    source ─► topic ─► stage ─► topic ─► stage ─► results, or a sink
                  └──► stage ─► topic ─┘

Each node writes one topic; a stage reads the topics of those it comes `after`. Nodes are kept in
the order in which they were added, and come after earlier ones alone, so there is no cycle.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from workers.errors import PipelineError
from workers.handler import name_of
from workers.pipeline.values import Format

#: Groups that a topic's limits can name (see bus.NewTopic, "max.lag.groups").
READERS_MAX: Final = 16


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where records begin: `items` of the program, or an existing `topic`.

    `follow`: a topic is read for as long as the pipeline runs, not only up to its present end.
    """

    name: str
    values: Format | None
    items: Iterable[Any] | None = None
    topic: str | None = None
    follow: bool = True


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A function in worker processes. `topic`: where outputs go; None: to a topic of its own.

    `options` are those of its pool. `values` is the format of its outputs.
    """

    name: str
    function: Callable[..., Any]
    after: tuple[str, ...]
    values: Format | None
    topic: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


Node = Source | Stage


class Graph:
    """The nodes of a pipeline by name."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}

    @property
    def sources(self) -> list[Source]:
        """The sources, in their order."""
        return [node for node in self.nodes.values() if isinstance(node, Source)]

    @property
    def stages(self) -> list[Stage]:
        """The stages: each one comes after all that it reads."""
        return [node for node in self.nodes.values() if isinstance(node, Stage)]

    def readers(self, name: str) -> list[Stage]:
        """The stages that read what a node writes."""
        return [stage for stage in self.stages if name in stage.after]

    def ends(self) -> list[Stage]:
        """The stages whose outputs no other stage and no sink takes: they are the results."""
        return [one for one in self.stages if not self.readers(one.name) and one.topic is None]

    # ------------------------------------------------------------------ building

    def add(self, node: Node) -> None:
        """Raises PipelineError if the name is taken."""
        if node.name in self.nodes:
            raise PipelineError(
                f"two parts of the pipeline are named {node.name!r}; give one another name="
            )
        if not node.name or " " in node.name:
            raise PipelineError(f"{node.name!r} is no name for a part of a pipeline")
        self.nodes[node.name] = node

    def before(self, after: str | Iterable[str] | None) -> tuple[str, ...]:
        """The names that `after` stands for: None is the node that was added last."""
        if after is None:
            if not self.nodes:
                raise PipelineError("a pipeline begins with source(…)")
            return (list(self.nodes)[-1],)
        names = (after,) if isinstance(after, str) else tuple(dict.fromkeys(after))
        for name in names:
            if name not in self.nodes:
                known = ", ".join(map(repr, self.nodes))
                raise PipelineError(f"after={name!r}: there is only {known or 'nothing yet'}")
        if not names:
            raise PipelineError("after=() names nothing to read from")
        return names

    def send_to(self, name: str, topic: str, values: Format | None) -> None:
        """A stage's outputs go to a topic of the bus. Raises PipelineError."""
        node = self.nodes[name]
        if not isinstance(node, Stage) or node.topic is not None:
            what = "a source" if isinstance(node, Source) else f"written to {node.topic!r} already"
            raise PipelineError(f"sink({topic!r}): {name!r} is {what}; a sink comes after a stage")
        self.nodes[name] = replace(node, topic=topic, values=values)

    def check(self, *, ordered: bool) -> None:
        """Raises PipelineError for a pipeline that cannot run."""
        if not self.stages:
            raise PipelineError("the pipeline has no stage; add one with stage(function)")
        for name in self.nodes:
            readers = self.readers(name)
            if len(readers) > READERS_MAX:
                raise PipelineError(f"{len(readers)} stages read {name!r}; {READERS_MAX} may")
            if not readers and isinstance(self.nodes[name], Source):
                raise PipelineError(f"no stage reads the source {name!r}")
        if ordered and len(self.sources) > 1:
            raise PipelineError(
                "ordered=True needs one source: the results of two have no order between them"
            )


def name_for(function: Callable[..., Any]) -> str:
    """A stage is called as its function is, in characters that a topic's name may have."""
    name = name_of(function).rpartition(":")[2].rpartition(".")[2]
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name)
