"""The whole source keeps the rules of tests/tidy.py, and the rules find what they are meant to."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import tidy

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("bus", "workers", "tests", "examples", "benchmarks", "setup.py")
SUFFIXES = tidy.PYTHON | tidy.CYTHON | tidy.C
#: What Cython writes at every build.
GENERATED = {Path("bus/native/core.c")}

#: (rule, path) that may break a rule. This list may only shrink: an entry without a breach fails.
EXEMPTIONS: frozenset[tuple[str, str]] = frozenset()

RULES = tidy.RULES_FOR_ALL + tidy.RULES_FOR_PYTHON


def project_files() -> Iterator[Path]:
    for place in PLACES:
        top = ROOT / place
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.suffix in SUFFIXES and path.relative_to(ROOT) not in GENERATED:
                yield path.relative_to(ROOT)


def breaches(rule: Callable[[tidy.Source], Iterator[tidy.Finding]]) -> dict[Path, list[str]]:
    found: dict[Path, list[str]] = {}
    for path in project_files():
        if rule in tidy.rules_for(path):
            source = tidy.Source(path, (ROOT / path).read_text(encoding="utf-8"))
            for finding in rule(source):
                found.setdefault(path, []).append(f"{path}:{finding.line}: {finding.what}")
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps_the_rule(rule: Any) -> None:
    found = breaches(rule)
    exempt = {Path(path) for name, path in EXEMPTIONS if name == rule.__name__}
    stale = sorted(str(path) for path in exempt - found.keys())
    assert not stale, f"no longer needed, remove from EXEMPTIONS: {stale}"
    lines = [line for path, texts in found.items() if path not in exempt for line in texts]
    assert not lines, "\n" + "\n".join(lines)


def test_there_is_source_to_look_at() -> None:
    assert {path.parts[0] for path in project_files()} >= {"bus", "tests", "benchmarks"}


LONG_BODY = "\n".join(["    x = 1"] * 60)
MARK = "TO" + "DO"

BREACHES = [
    (tidy.module_length, "bus/log.py", "\n" * 401),
    (tidy.columns, "bus/log.c", "/*" + "x" * 100),
    (tidy.module_name, "bus/utils.py", ""),
    (tidy.module_name, "bus/common/log.py", ""),
    (tidy.unfinished_work, "bus/log.h", f"/* {MARK}: later */"),
    (tidy.function_length, "bus/log.py", f"def f():\n{LONG_BODY}\n"),
    (tidy.function_length, "bus/core.pyx", f"cdef int f(self,\n    int y) nogil:\n{LONG_BODY}\n"),
    (tidy.function_length, "bus/log.c", f"static int f(int y)\n{{\n{LONG_BODY}\n}}\n"),
    (tidy.silent_except, "bus/log.py", "try:\n    f()\nexcept:\n    g()\n"),
    (tidy.silent_except, "bus/log.py", "try:\n    f()\nexcept OSError:\n    pass\n"),
    (tidy.silent_except, "bus/core.pyx", "try:\n    f()\nexcept OSError:\n    pass\n"),
    (tidy.blind_sleep, "tests/test_log.py", "import time\ntime.sleep(1)\n"),
    (tidy.blind_sleep, "tests/test_log.py", "while busy():\n    def f(): sleep(1)\n"),
]

HARMLESS = [
    (tidy.module_length, "bus/log.py", "\n" * 400),
    (tidy.function_length, "bus/log.c", f"int f(int y);\n{LONG_BODY}\nstruct x {{\n}};\n"),
    (tidy.function_length, "bus/log.py", "def f():\n    return 1\n\n\n" + "x = 1\n" * 60),
    (tidy.silent_except, "bus/log.py", "try:\n    f()\nexcept OSError as e:\n    g(e)\n"),
    (tidy.blind_sleep, "tests/test_log.py", "while busy():\n    time.sleep(0.01)\n"),
    (tidy.blind_sleep, "bus/log.py", "time.sleep(1)\n"),
]


@pytest.mark.parametrize(("rule", "path", "text"), BREACHES)
def test_a_rule_finds_its_breach(rule: Any, path: str, text: str) -> None:
    assert list(rule(tidy.Source(Path(path), text)))


@pytest.mark.parametrize(("rule", "path", "text"), HARMLESS)
def test_a_rule_leaves_the_harmless_alone(rule: Any, path: str, text: str) -> None:
    assert not list(rule(tidy.Source(Path(path), text)))
