"""On aarch64 each order is there in the instructions, and the core's tests pass.

Run by `tox -e arm`; needs a cross compiler and qemu. qemu on x86 orders memory as x86 does, so what
runs here proves that the core computes the same (CRC instructions, layout, locks); that the order
is right is shown by the instructions, and by `tests/litmus/test_weak_memory.py`.
"""

import re
from pathlib import Path

import pytest

from tests.arm.cross import TIMEOUT_S, call, compiler, emulator, ordering
from tests.litmus import pairs

HERE = Path(__file__).resolve().parent
TESTS = pairs.ROOT / "tests" / "native"

#: Function of atomics.h → instructions, without and with the atomics of ARMv8.1.
ORDERS = {
    "load_acquire": (["ldar"], ["ldar"]),
    "load32_acquire": (["ldar"], ["ldar"]),
    "load_relaxed": ([], []),
    "load32_relaxed": ([], []),
    "store_release": (["stlr"], ["stlr"]),
    "store32_release": (["stlr"], ["stlr"]),
    "store_relaxed": ([], []),
    "store32_relaxed": ([], []),
    "fetch_add": (["ldaxr", "stlxr"], ["ldaddal"]),
    "fetch_or": (["ldaxr", "stlxr"], ["ldsetal"]),
    "fetch_and": (["ldaxr", "stlxr"], ["ldclral"]),
    "exchange": (["ldaxr", "stlxr"], ["swpal"]),
    "compare_exchange": (["ldaxr", "stlxr"], ["casal"]),
    "compare_exchange32": (["ldaxr", "stlxr"], ["casal"]),
    "fence_full": (["dmb ish"], ["dmb ish"]),
    "fence_acquire": (["dmb ishld"], ["dmb ishld"]),
    "fence_release": (["dmb ish"], ["dmb ish"]),
    "cpu_relax": (["yield"], ["yield"]),
}
#: File, function → what must stand in it, in this order. The pairs of docs/design.md.
PAIRS = {
    ("log", "publish"): ["dmb ish", "stlr"],
    ("log", "bus_log_end"): ["ldar", "ldar", "ldar", "ldar", "dmb ishld"],
    ("durable", "bus_publish_durable"): ["stlr", "stlr"],
    ("durable", "bus_durable_end"): ["ldar"],
    ("log", "bus_pin"): ["ldset8_acq_rel", "dmb ish", "ldar"],
    ("log", "bus_unpin"): ["ldclr8_acq_rel"],
    ("log", "bus_is_pinned"): ["ldar", "ldar", "ldar"],
    ("ring", "bus_ring_next"): ["stlr", "dmb ish"],
    ("wait", "bus_sleeper_set"): ["ldset8_acq_rel", "ldset8_acq_rel", "dmb ish"],
    ("wait", "bus_wake_sleepers"): ["ldclr8_acq_rel", "swp8_acq_rel"],
    ("reader", "bus_reader_attach"): ["cas4_acq_rel", "stlr"],
    ("reader", "bus_readers_reap"): ["stlr", "ldar"],
}
#: They need the kernel's list of robust locks, which qemu-user does not have: on x86 they run.
ROBUST = {
    "a_holder_that_dies_hands_the_lock_on",
    "a_lock_left_unrepaired_is_lost_for_all",
    "a_held_lock_names_its_holder_and_times_out",
    "a_writer_killed_anywhere_leaves_a_whole_log",
}


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("newer", [False, True])
def test_an_order_is_there_in_the_instructions(name: str, newer: bool, tmp_path: Path) -> None:
    flag = "-march=armv8.1-a" if newer else "-mno-outline-atomics"
    found = ordering(HERE / "orders.c", tmp_path, f"-I{pairs.NATIVE}", flag)
    assert found[name] == ORDERS[name][newer]


@pytest.mark.parametrize(("file", "function"), PAIRS)
def test_a_pair_is_there_in_the_instructions(file: str, function: str, tmp_path: Path) -> None:
    found = ordering(pairs.NATIVE / f"{file}.c", tmp_path, f"-I{pairs.NATIVE}")[function]
    rest = iter(found)
    assert all(wanted in rest for wanted in PAIRS[file, function]), found


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("arm") / "native_test"
    files = [*pairs.core_sources(), *sorted(TESTS.glob("*.c"))]
    includes = [f"-I{pairs.NATIVE}", f"-I{TESTS}"]
    call([*compiler(), *pairs.FLAGS, *includes, *files, "-pthread", "-lrt", "-o", program])
    return program


def names() -> list[str]:
    """All tests of the core."""
    texts = (path.read_text() for path in sorted(TESTS.glob("*.c")))
    return [name for text in texts for name in re.findall(r'^    \{"(\w+)"', text, re.MULTILINE)]


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("name", [name for name in names() if name not in ROBUST])
def test_the_core_computes_the_same(native: Path, name: str) -> None:
    assert "passed, 0 failed" in call([*emulator(), native, name])


def test_what_cannot_run_under_qemu_is_named() -> None:
    assert set(names()) >= ROBUST
    assert len(names()) > 30


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pairs.build(tmp_path_factory.mktemp("pairs"), compiler())


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("kind", pairs.KINDS)
@pytest.mark.parametrize("pair", pairs.PAIRS)
def test_no_pair_shows_what_it_forbids(program: Path, pair: str, kind: str) -> None:
    outcome = pairs.run([*emulator(), str(program)], kind, pair, 0.5)
    assert outcome.rounds > 0
    assert outcome.forbidden == 0
