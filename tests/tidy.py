"""The rules of style that tests/test_tidy.py holds the source to: pure functions of a file's text.

A rule takes a Source and yields Findings. Limits are hard limits; a good module stays far below.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Lines of a module, a header or a test file.
MODULE_LINES_MAX = 400
#: Lines of a function, from `def` to its last line.
FUNCTION_LINES_MAX = 50
COLUMNS_MAX = 100
#: A module has one noun as its name; these say nothing.
EMPTY_NAMES = frozenset({"utils", "util", "helpers", "helper", "common", "manager", "misc"})
#: Marks of unfinished work, put together here so that this file does not find itself.
UNFINISHED = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r")\b")
PYTHON = frozenset({".py", ".pyi"})
CYTHON = frozenset({".pyx", ".pxi", ".pxd"})
C = frozenset({".c", ".h"})


@dataclass(frozen=True)
class Source:
    """A file of the project, by its path from the root."""

    path: Path
    text: str

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def is_test(self) -> bool:
        return self.path.parts[0] == "tests"


@dataclass(frozen=True)
class Finding:
    """One breach of a rule; `what` names a function where there is one."""

    line: int
    what: str


def module_length(source: Source) -> Iterator[Finding]:
    count = len(source.lines)
    if count > MODULE_LINES_MAX:
        yield Finding(count, f"{count} lines, at most {MODULE_LINES_MAX}")


def columns(source: Source) -> Iterator[Finding]:
    for number, line in enumerate(source.lines, 1):
        if len(line) > COLUMNS_MAX:
            yield Finding(number, f"{len(line)} columns, at most {COLUMNS_MAX}")


def module_name(source: Source) -> Iterator[Finding]:
    for part in source.path.with_suffix("").parts:
        if part in EMPTY_NAMES:
            yield Finding(1, f"'{part}' names nothing")


def unfinished_work(source: Source) -> Iterator[Finding]:
    for number, line in enumerate(source.lines, 1):
        if UNFINISHED.search(line):
            yield Finding(number, "unfinished work")


def function_length(source: Source) -> Iterator[Finding]:
    for name, first, last in _functions(source):
        length = last - first + 1
        if length > FUNCTION_LINES_MAX:
            yield Finding(first, f"{name}: {length} lines, at most {FUNCTION_LINES_MAX}")


def silent_except(source: Source) -> Iterator[Finding]:
    """`except:` catches even Ctrl-C; an except with only `pass` hides its cause."""
    if source.path.suffix in CYTHON:
        yield from _silent_except_in_lines(source.lines)
        return
    for node in ast.walk(_tree(source)):
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                yield Finding(node.lineno, "bare except")
            elif all(isinstance(statement, ast.Pass) for statement in node.body):
                yield Finding(node.lineno, "except with nothing but pass; use contextlib.suppress")


def blind_sleep(source: Source) -> Iterator[Finding]:
    """A test waits for a condition: time alone proves nothing and slows a fast machine down."""
    if source.is_test and source.path.suffix in PYTHON:
        yield from _sleeps(_tree(source), watched=False)


RULES_FOR_ALL = (module_length, columns, module_name, unfinished_work, function_length)
RULES_FOR_PYTHON = (silent_except, blind_sleep)


def rules_for(path: Path) -> tuple[object, ...]:
    """The rules that a file of this kind is held to."""
    return RULES_FOR_ALL if path.suffix in C else RULES_FOR_ALL + RULES_FOR_PYTHON


def _tree(source: Source) -> ast.AST:
    return ast.parse(source.text) if source.path.suffix in PYTHON else ast.Module([], [])


def _functions(source: Source) -> Iterator[tuple[str, int, int]]:
    """Name, first and last line of every function."""
    if source.path.suffix in PYTHON:
        for node in ast.walk(_tree(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name, node.lineno, node.end_lineno or node.lineno
    elif source.path.suffix in CYTHON:
        yield from _indented_functions(source.lines)
    else:
        yield from _braced_functions(source.lines)


_CYTHON_DEF = re.compile(r"^(\s*)(?:async\s+def|def|cpdef|cdef)\s(?!\s*class\b)[^=]*?(\w+)\(.*")


def _indented_functions(lines: list[str]) -> Iterator[tuple[str, int, int]]:
    for first, line in enumerate(lines, 1):
        match = _CYTHON_DEF.match(line)
        if not match:
            continue
        indent = len(match.group(1))
        last = first
        for number in range(first, len(lines)):
            text = lines[number].strip()
            closes_signature = text.startswith(")")
            inside = len(lines[number]) - len(lines[number].lstrip()) > indent
            if text and not inside and not closes_signature:
                break
            if text:
                last = number + 1
        yield match.group(2), first, last


_C_OPENING = re.compile(r"^(?!#|struct|typedef|enum|union|extern|static_assert)[A-Za-z_].*?(\w+)\(")


def _braced_functions(lines: list[str]) -> Iterator[tuple[str, int, int]]:
    """Functions of C in this project's layout: they start and end in column 0."""
    first, name = 0, ""
    for number, line in enumerate(lines, 1):
        match = _C_OPENING.match(line)
        if match and not line.rstrip().endswith(";"):
            first, name = number, match.group(1)
        elif line.startswith("}") and first:
            yield name, first, number
            first = 0
        elif first and line.rstrip().endswith(";") and not line.startswith((" ", "\t")):
            first = 0


def _silent_except_in_lines(lines: list[str]) -> Iterator[Finding]:
    for number, line in enumerate(lines, 1):
        text = line.strip()
        following = lines[number].strip() if number < len(lines) else ""
        if text == "except:":
            yield Finding(number, "bare except")
        elif text.startswith("except ") and (text.endswith(": pass") or following == "pass"):
            yield Finding(number, "except with nothing but pass")


def _sleeps(node: ast.AST, *, watched: bool) -> Iterator[Finding]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call) and _is_sleep(child) and not watched:
            yield Finding(child.lineno, "sleeps without a condition; use tests.waiting.eventually")
        inside = watched or isinstance(child, ast.While)
        starts_anew = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _sleeps(child, watched=inside and not starts_anew)


def _is_sleep(call: ast.Call) -> bool:
    called = call.func
    if isinstance(called, ast.Attribute):
        return called.attr == "sleep"
    return isinstance(called, ast.Name) and called.id == "sleep"
