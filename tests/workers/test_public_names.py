"""`workers` stands on the public face of the bus."""

import ast
from pathlib import Path

import bus
import workers


def test_workers_import_public_names_of_the_bus_alone() -> None:
    wrong = []
    for source in sorted(Path(workers.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                wrong += [
                    f"{source.name}: {a.name}" for a in node.names if a.name.startswith("bus.")
                ]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bus":
                names = {alias.name for alias in node.names}
                if node.module == "bus":
                    wrong += [f"{source.name}: {name}" for name in names - set(bus.__all__)]
                elif node.module not in ("bus.errors", "bus.serializers"):
                    wrong.append(f"{source.name}: {node.module}")
    assert wrong == []
