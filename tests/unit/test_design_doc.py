"""docs/design.md draws the bytes of layout.h: its diagrams must not rot.

Under each heading "### bus_NAME, N bytes" stands a diagram. A line of it is "offset |cell|cell|",
eight characters for each byte; a cell begins with the name of a field, or with "reserved".
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bus.native.core import LAYOUT

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "design.md"
CHARACTERS_A_BYTE = 8
ROW_BYTES = 8
HEADING = re.compile(r"### (bus_\w+), ([\d,]+) bytes")
ROW = re.compile(r" *(\d+) {1,2}\|(.*)\|")
CONSTANT = re.compile(r"\b(BUS_[A-Z_]+) = (\d+)")


class Section(NamedTuple):
    """What the document says about one structure."""

    name: str
    size: int
    text: str


def sections() -> dict[str, Section]:
    found = {}
    for part in re.split(r"^(?=##)", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE):
        heading = HEADING.match(part)
        if heading:
            found[heading[1]] = Section(heading[1], int(heading[2].replace(",", "")), part)
    return found


def drawn_fields(section: Section) -> Iterator[tuple[str, int]]:
    """Name and offset of every cell."""
    for line in section.text.splitlines():
        row = ROW.fullmatch(line)
        if row is None:
            continue
        assert len(row[2]) == ROW_BYTES * CHARACTERS_A_BYTE - 1, line
        at = 0
        for cell in row[2].split("|"):
            assert at % CHARACTERS_A_BYTE == 0, line
            yield re.split(r"[,:]", cell.strip())[0], int(row[1]) + at // CHARACTERS_A_BYTE
            at += len(cell) + 1


def layout_fields(structure: str) -> dict[str, int]:
    prefix = f"{structure}."
    return {name.removeprefix(prefix): at for name, at in LAYOUT.items() if name.startswith(prefix)}


def structures() -> list[str]:
    return sorted(name.removeprefix("sizeof.") for name in LAYOUT if name.startswith("sizeof."))


def test_every_structure_of_the_layout_is_drawn() -> None:
    assert sorted(sections()) == structures()


@pytest.mark.parametrize("structure", structures())
def test_a_structure_is_drawn_as_it_is_laid_out(structure: str) -> None:
    section = sections()[structure]
    drawn = dict(drawn_fields(section))
    drawn.pop("reserved", None)
    laid_out = layout_fields(structure)
    assert section.size == LAYOUT[f"sizeof.{structure}"]
    assert drawn == {name: at for name, at in laid_out.items() if name != "reserved"}


@pytest.mark.parametrize("structure", structures())
def test_the_text_speaks_of_every_word_that_is_drawn(structure: str) -> None:
    section = sections()[structure]
    text = re.sub(r"```text.*?```", "", section.text, flags=re.DOTALL)
    for name in layout_fields(structure):
        assert f"`{name}`" in text or name == "reserved", name


def test_constants_have_the_values_that_the_document_gives() -> None:
    given = CONSTANT.findall(DOCUMENT.read_text(encoding="utf-8"))
    assert given
    for name, value in given:
        assert LAYOUT[name] == int(value), name


def test_the_alignments_and_sizes_in_the_text_hold() -> None:
    text = " ".join(DOCUMENT.read_text(encoding="utf-8").split())
    for sentence in (
        f"begins on a multiple of {LAYOUT['BUS_VALUE_ALIGN']} when it has"
        f" {LAYOUT['BUS_ALIGNED_VALUE']} bytes or more",
        f"multiple of {LAYOUT['BUS_FRAME_ALIGN']}, at least {LAYOUT['sizeof.bus_frame']}",
        f"has an entry for each *n*/{LAYOUT['BUS_INDEX_ENTRIES']} bytes",
        f"the layout version ({LAYOUT['BUS_LAYOUT_VERSION']})",
    ):
        assert sentence in text


def test_the_attributes_of_a_frame_are_those_of_the_layout() -> None:
    text = sections()["bus_frame"].text
    for name in (
        "BUS_TYPE_MASK",
        "BUS_CODEC_MASK",
        "BUS_ATTR_APPEND_TIME",
        "BUS_ATTR_TRANSACTIONAL",
        "BUS_ATTR_NULL_KEY",
        "BUS_ATTR_NULL_VALUE",
        "BUS_ATTR_ALIGNED",
        "BUS_ATTR_BARE_VALUE",
    ):
        assert f"0x{LAYOUT[name]:04x}" in text, name
