"""A pipeline as SVG: its parts from left to right, with their figures if it runs.

Nothing but rectangles, lines and text, so that any viewer shows it, and any XML parser reads it.
"""

from collections.abc import Iterator
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from workers.pipeline.drawing import figures, workers_of, workers_text
from workers.pipeline.edges import RESULTS
from workers.pipeline.graph import Graph, Node, Source, Stage
from workers.pipeline.measures import PipelineMeasures

WIDTH: Final = 190
HEIGHT: Final = 64
GAP_X: Final = 90
GAP_Y: Final = 28
MARGIN: Final = 20
_LINE: Final = 17
_STYLE: Final = """
  .part { fill: #f4f6f8; stroke: #5b6b7b; }
  .held { fill: #fde9d9; stroke: #c2570c; }
  .end { fill: #ffffff; stroke: #5b6b7b; stroke-dasharray: 4 3; }
  .edge { fill: none; stroke: #5b6b7b; }
  text { font: 12px sans-serif; fill: #1c2733; }
  .name { font-weight: bold; }
"""


class _Layout:
    """Where each part stands: (column, row). Ends are named after the node that they follow."""

    def __init__(self, graph: Graph) -> None:
        self._columns: dict[str, int] = {}
        self.cells: dict[str, tuple[int, int]] = {}
        rows: dict[int, int] = {}
        for node in graph.nodes.values():
            self._place(node.name, self._column(node), rows)
        last = max(self._columns.values()) + 1
        for node in graph.nodes.values():
            if isinstance(node, Stage) and is_end(graph, node):
                self._place(f"end of {node.name}", last, rows)
        self.width = 2 * MARGIN + (last + 1) * WIDTH + last * GAP_X
        self.height = 2 * MARGIN + max(rows.values()) * (HEIGHT + GAP_Y) - GAP_Y

    def _column(self, node: Node) -> int:
        if isinstance(node, Source):
            return 0
        return 1 + max(self._columns[name] for name in node.after)

    def _place(self, name: str, column: int, rows: dict[int, int]) -> None:
        self._columns[name] = column
        self.cells[name] = (column, rows.get(column, 0))
        rows[column] = rows.get(column, 0) + 1

    def corner(self, name: str) -> tuple[int, int]:
        """The upper left corner of a part."""
        column, row = self.cells[name]
        return MARGIN + column * (WIDTH + GAP_X), MARGIN + row * (HEIGHT + GAP_Y)


def is_end(graph: Graph, stage: Stage) -> bool:
    """True if what the stage gives leaves the pipeline."""
    return stage.topic is not None or not graph.readers(stage.name)


def pictured(graph: Graph, measures: PipelineMeasures | None) -> str:
    """The SVG, as one document."""
    layout = _Layout(graph)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{layout.width}" height="{layout.height}"'
        f' viewBox="0 0 {layout.width} {layout.height}">',
        f"<style>{_STYLE}</style>",
        '<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4"'
        ' orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#5b6b7b"/></marker></defs>',
        *_edges(graph, layout, measures),
        *_parts(graph, layout, measures),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _edges(graph: Graph, layout: _Layout, measures: PipelineMeasures | None) -> Iterator[str]:
    lags = {(edge.source, edge.reader): edge.lag for edge in measures.edges} if measures else {}
    for stage in graph.stages:
        for name in stage.after:
            yield from _edge(layout, name, stage.name, lags.get((name, stage.name)))
        if is_end(graph, stage):
            yield from _edge(
                layout, stage.name, f"end of {stage.name}", lags.get((stage.name, RESULTS))
            )


def _edge(layout: _Layout, source: str, target: str, lag: int | None) -> Iterator[str]:
    (x1, y1), (x2, y2) = layout.corner(source), layout.corner(target)
    x1, y1, y2 = x1 + WIDTH, y1 + HEIGHT // 2, y2 + HEIGHT // 2
    middle = (x1 + x2) // 2
    yield (
        f'<path class="edge" marker-end="url(#tip)"'
        f' d="M{x1},{y1} C{middle},{y1} {middle},{y2} {x2},{y2}"/>'
    )
    if lag is not None:
        yield _text(middle, (y1 + y2) // 2 - 6, f"{lag:,}", "middle")


def _parts(graph: Graph, layout: _Layout, measures: PipelineMeasures | None) -> Iterator[str]:
    for node in graph.nodes.values():
        lines = [node.name, *_said(node, measures)]
        held = (
            measures is not None and isinstance(node, Stage) and measures.stage(node.name).held_up
        )
        yield from _part(layout, node.name, lines, "held" if held else "part")
        if isinstance(node, Stage) and is_end(graph, node):
            end = RESULTS if node.topic is None else f"topic {node.topic}"
            yield from _part(layout, f"end of {node.name}", [end], "end")


def _said(node: Node, measures: PipelineMeasures | None) -> list[str]:
    if isinstance(node, Source):
        if node.topic is not None:
            return [f"topic {node.topic}"]
        return [] if measures is None else [f"{measures.fed:,} items sent"]
    if measures is None:
        return [workers_text(workers_of(node))]
    words = figures(measures.stage(node.name))
    return [", ".join(words[:2]), ", ".join(words[2:])]


def _part(layout: _Layout, name: str, lines: list[str], kind: str) -> Iterator[str]:
    x, y = layout.corner(name)
    yield (
        f'<rect class={quoteattr(kind)} x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
    )
    for number, line in enumerate(line for line in lines if line):
        yield _text(x + 10, y + 20 + number * _LINE, line, "start", "name" if number == 0 else "")


def _text(x: int, y: int, text: str, anchor: str, kind: str = "") -> str:
    named = f" class={quoteattr(kind)}" if kind else ""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{named}>{escape(text)}</text>'
