"""Nothing is unpickled, executed or evaluated that came from a file or a socket of the bus."""

import ast
import os
import signal
import sys
from pathlib import Path

import bus
from bus.supervisor import serve
from tests.children import Fork, Report
from tests.waiting import eventually

UNSAFE_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle"}
SOURCES = sorted(Path(bus.__file__).parent.rglob("*.py"))
#: The serializer that a program must ask for by name; nothing else of the bus imports it.
ASKED_FOR = "serializers/pickle.py"


def test_no_module_of_the_bus_imports_a_pickler() -> None:
    found = []
    for source in SOURCES:
        if str(source).endswith(ASKED_FOR):
            continue
        for node in ast.walk(ast.parse(source.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                names = ["pickle"] if node.func.id in {"eval", "exec"} else []
            found += [f"{source}:{node.lineno}" for n in names if n.split(".")[0] in UNSAFE_MODULES]
    assert found == []


def _listening(report: Report) -> None:
    """Reports every unpickling in this process, and in those that it forks, from now on."""

    def heard(event: str, args: tuple[object, ...]) -> None:
        if event == "pickle.find_class":
            report([event, str(args)])

    sys.addaudithook(heard)


def test_a_full_run_of_broker_replica_and_clients_unpickles_nothing(
    bus_dir: Path, fork: Fork
) -> None:
    def broker(report: Report) -> None:
        _listening(report)
        serve(bus_dir)

    def clients(report: Report) -> None:
        _listening(report)
        use_everything(bus_dir)

    serving = fork(broker)
    eventually((bus_dir / "broker.sock").exists)
    used = fork(clients)
    assert used.wait() == 0
    os.kill(serving.pid, signal.SIGTERM)
    assert serving.wait() == 0
    assert used.rest() == [] and serving.rest() == []


def use_everything(path: Path) -> None:
    hostile = b"cos\nsystem\n(S'touch /tmp/pwned'\ntR."  # what a pickle would execute
    with bus.Admin(path, autostart=False) as admin, bus.Producer(path, autostart=False) as producer:
        admin.create_topics(["t"])
        producer.send("t", hostile, key=hostile, headers=[("h", hostile)]).get(timeout=10)
        with bus.Consumer(
            "t", bootstrap_servers=path, group_id="g", auto_offset_reset="earliest", autostart=False
        ) as consumer:
            [[record]] = consumer.poll(timeout_ms=10_000).values()
            assert (record.key, record.value, record.headers) == (
                hostile,
                hostile,
                [("h", hostile)],
            )
            consumer.commit()
        assert admin.list_topics() == ["t"]
        assert admin.describe_topics()


def test_the_hook_hears_an_unpickling(fork: Fork) -> None:
    """The check above can fail: a program that unpickles by itself is heard."""

    def program(report: Report) -> None:
        import pickle

        _listening(report)
        pickle.loads(pickle.dumps(Path("/")))

    child = fork(program)
    assert child.next()[0] == "pickle.find_class"
    child.wait()
