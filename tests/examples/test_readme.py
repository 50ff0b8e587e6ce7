"""What the README shows works: its example prints what it says, its commands are those of CI."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.buses import end_bus
from tests.examples.scripts import ROOT, run

README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Written by a run of the benchmarks.
MADE_LATER = {ROOT / "docs" / "benchmarks.md"}
LINES_MAX = 10


def blocks(language: str) -> list[str]:
    """The README's blocks of code in one language."""
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What the headings of a page can be linked by."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """A directory to run the example in; its bus, ./data, must end clean."""
    yield tmp_path
    wrong = end_bus(tmp_path / "data")
    assert not wrong, "\n".join(wrong)


def test_the_example_prints_what_the_readme_says(here: Path) -> None:
    example = blocks("python")[0]
    expected = blocks("text")[0]
    (here / "example.py").write_text(example, encoding="utf-8")
    assert run("example.py", cwd=here) == expected
    assert len([line for line in example.splitlines() if line.strip()]) <= LINES_MAX


QUEUE = """
import bus

def do(value):
    if value == b"stop":
        raise KeyboardInterrupt
    return 10 // int(value)

with bus.Broker("./data"), bus.Producer("./data") as producer:
    for value in (b"5", b"0", b"2", b"stop"):
        producer.send("jobs", value)
    try:
{block}
    except KeyboardInterrupt:
        with bus.Admin("./data") as admin:
            print(admin.list_group_offsets("workers")["workers"])
"""


def test_the_work_queue_of_the_readme_works(here: Path) -> None:
    """A job that fails is not acknowledged, and those behind it are."""
    [queue] = [block for block in blocks("python") if "jobs.nack" in block]
    block = textwrap.indent(queue, " " * 8)
    (here / "queue.py").write_text(QUEUE.format(block=block), encoding="utf-8")
    printed = run("queue.py", cwd=here).splitlines()
    assert printed[:2] == ["2", "5"]
    assert "partition=0): OffsetAndMetadata(offset=1," in printed[2]


def test_ci_runs_the_two_commands() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands = blocks("sh")
    assert len(commands) == 2
    for step in (step.strip() for command in commands for step in command.split("&&")):
        words = step.split()
        assert any(is_subsequence(words, line.split()) for line in lines), step


def is_subsequence(words: list[str], line: list[str]) -> bool:
    """True if the line has these words in this order, with options in between or around."""
    rest = iter(line)
    return all(word in rest for word in words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        name, _, anchor = target.partition("#")
        if name.startswith("http"):
            continue
        file = (page.parent / name).resolve() if name else page
        assert file.exists() or file in MADE_LATER, target
        assert not anchor or anchor in anchors(file), target
