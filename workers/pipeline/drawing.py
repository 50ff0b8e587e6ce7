"""A pipeline as a tree of text, with its figures if it runs.

    source, 1,000 items sent
    └── load: 2 workers, 120/s, 3 wait
        ├── resize: 4 workers, 118/s, 12 wait
        │   └── ► sheet
        └── checksum: 1 worker, 120/s
            └── sheet: 1 worker, 40/s

A stage that takes from several stands below the last one of them; below the others is its name.
"""

import io
from typing import Final

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from workers.handler import name_of
from workers.pipeline.graph import Graph, Node, Source, Stage
from workers.pipeline.measures import PipelineMeasures, StageMeasures

_WIDTH: Final = 240


def drawn(graph: Graph, measures: PipelineMeasures | None) -> str:
    """The text, without an end of line."""
    lines = []
    for source in graph.sources:
        tree = Tree(Text(_source(source, measures)))
        _grow(tree, graph, source, measures)
        out = io.StringIO()
        Console(file=out, width=_WIDTH, color_system=None, highlight=False).print(tree)
        lines += [line.rstrip() for line in out.getvalue().splitlines()]
    return "\n".join(lines)


def _grow(tree: Tree, graph: Graph, node: Node, measures: PipelineMeasures | None) -> None:
    for stage in graph.readers(node.name):
        if stage.after[-1] == node.name:
            _grow(tree.add(Text(_stage(stage, measures))), graph, stage, measures)
        else:
            tree.add(Text(f"► {stage.name}"))
    if isinstance(node, Stage) and node.topic is not None:
        tree.add(Text(f"► topic {node.topic}"))


def _source(source: Source, measures: PipelineMeasures | None) -> str:
    if source.topic is not None:
        return f"{source.name}: topic {source.topic}"
    sent = "" if measures is None else f", {measures.fed:,} items sent"
    return f"{source.name}{sent}"


def _stage(stage: Stage, measures: PipelineMeasures | None) -> str:
    if measures is None:
        return f"{stage.name}: {name_of(stage.function)} in {workers_text(workers_of(stage))}"
    return f"{stage.name}: {', '.join(figures(measures.stage(stage.name)))}"


def workers_of(stage: Stage) -> str:
    """How many workers a stage is to have, as it was asked for."""
    return str(stage.options.get("processes", 1))


def workers_text(count: str) -> str:
    """That number of workers, in words."""
    return f"{count} worker" if count == "1" else f"{count} workers"


def figures(one: StageMeasures) -> list[str]:
    """What is to be said of a stage at work, most important first."""
    words = [workers_text(str(one.workers)), f"{one.rate_per_s:,.0f}/s"]
    if one.lag:
        words.append(f"{one.lag:,} wait")
    for count, what in ((one.retried, "retried"), (one.dead, "dead"), (one.crashes, "crashed")):
        if count:
            words.append(f"{count:,} {what}")
    if one.held_up:
        words.append("held up")
    return words
