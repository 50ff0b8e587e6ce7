"""Directories that cannot be used are refused with the cause, and are left as they were."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import bus
from bus.directory import BusDirectory
from bus.errors import (
    BrokerAlreadyRunningError,
    BrokerNotRunningError,
    BusConfigurationError,
    CorruptSegmentError,
    DirectoryError,
    ReadOnlyDirectoryError,
    UnsafeDirectoryError,
    UnsupportedVersionError,
)
from tests.bad_input.places import NOBODY, as_user, public_directory, read_only

HANDLES: list[Callable[..., object]] = [
    lambda path: bus.Broker(path).start(),
    lambda path: bus.Producer(path),
    lambda path: bus.Consumer("t", bootstrap_servers=path),
    lambda path: bus.Admin(path),
]
NAMES = ["broker", "producer", "consumer", "admin"]
EVERY_HANDLE = pytest.mark.parametrize("make", HANDLES, ids=NAMES)


def contents(path: Path) -> list[str]:
    """Every file below, without what a broker logs."""
    return sorted(str(file) for file in path.rglob("*") if file.name not in ("broker.log",))


@EVERY_HANDLE
def test_a_directory_of_another_user_is_refused(
    tmp_path: Path, make: Callable[..., object]
) -> None:
    path = tmp_path / "bus"
    path.mkdir(mode=0o700)
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(UnsafeDirectoryError, match=f"belongs to uid {NOBODY}, this process.* own"):
        make(path)
    assert contents(path) == []


@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_a_directory_that_others_may_write_is_refused_with_the_command_that_mends_it(
    tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "bus"
    path.mkdir()
    path.chmod(mode)
    for make in HANDLES:
        with pytest.raises(UnsafeDirectoryError, match=f"writable by others .*chmod go-w {path}"):
            make(path)
    assert contents(path) == []


@EVERY_HANDLE
def test_a_read_only_directory_is_refused(tmp_path: Path, make: Callable[..., object]) -> None:
    path = tmp_path / "bus"
    path.mkdir(mode=0o700)
    with read_only(path), pytest.raises(ReadOnlyDirectoryError, match="read-only filesystem"):
        make(path)
    assert contents(path) == []


def test_a_bus_that_became_read_only_is_refused_and_works_again_afterwards(bus_dir: Path) -> None:
    with bus.Broker(bus_dir), bus.Producer(bus_dir) as producer:
        producer.send("t", b"before").get(timeout=10)
    with read_only(bus_dir):
        for make in HANDLES:
            with pytest.raises(ReadOnlyDirectoryError, match="read-only filesystem"):
                make(bus_dir)
    with bus.Broker(bus_dir), bus.Producer(bus_dir) as producer:
        assert producer.send("t", b"after").get(timeout=10).offset == 1


def test_a_user_without_rights_is_told_which_directory_and_which_uid() -> None:
    with public_directory() as public:
        for mode, words in ((0o700, "may not be opened or changed by uid"), (0o755, "belongs to")):
            path = public / f"{mode:o}"
            path.mkdir()
            path.chmod(mode)
            name, text = as_user(NOBODY, lambda path=path: repr(bus.Producer(path)))
            assert name in ("ReadOnlyDirectoryError", "UnsafeDirectoryError")
            assert words in text
            assert str(path) in text
            assert contents(path) == []


def test_a_broker_of_another_user_is_not_used(bus_dir: Path) -> None:
    with bus.Broker(bus_dir):
        os.chown(bus_dir, NOBODY, NOBODY)
        try:
            with pytest.raises(UnsafeDirectoryError, match=f"belongs to uid {NOBODY}"):
                bus.Producer(bus_dir)
        finally:
            os.chown(bus_dir, os.geteuid(), os.getegid())


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ('{"format": 2, "bus_id": "00000000000000aa"}', UnsupportedVersionError, "has format 2"),
        ('{"bus_id": "00000000000000aa"}', UnsupportedVersionError, "has format None"),
        ('{"format": 1, "bus_id": "00000000000000aa"}', CorruptSegmentError, "checksum is None"),
        ("{", CorruptSegmentError, "is damaged .Expecting property name"),
        ("[1]", CorruptSegmentError, "holds list"),
        ("", CorruptSegmentError, "is damaged .Expecting value"),
    ],
    ids=["newer", "no-format", "no-checksum", "cut", "list", "empty"],
)
def test_another_format_and_a_damaged_identity_are_refused(
    tmp_path: Path, text: str, kind: type[Exception], words: str
) -> None:
    (tmp_path / "bus.json").write_text(text)
    for make in HANDLES[:2]:
        with pytest.raises(kind, match=rf"bus\.json.*{words}"):
            make(tmp_path)
    assert contents(tmp_path) == [str(tmp_path / "bus.json")]
    assert (tmp_path / "bus.json").read_text() == text


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bus").write_text("mine")
    for make in HANDLES:
        with pytest.raises(DirectoryError, match="is not a directory"):
            make(tmp_path / "bus")
    assert (tmp_path / "bus").read_text() == "mine"


@pytest.mark.parametrize(
    ("address", "kind", "words"),
    [
        ("kafka://localhost:9092", UnsupportedVersionError, "directory"),
        (7, (TypeError, BusConfigurationError), "int"),
        ("", BusConfigurationError, "directory"),
        ("a\0b", BusConfigurationError, "a.*b"),
    ],
)
def test_an_address_that_is_no_directory_is_refused(
    address: object, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        bus.Producer(address)  # type: ignore[arg-type]


def test_a_second_broker_is_refused_at_once_and_told_the_first_ones_pid(bus_dir: Path) -> None:
    with bus.Broker(bus_dir) as first:
        with pytest.raises(BrokerAlreadyRunningError, match=rf"pid {first.pid}; .*bus stop"):
            bus.Broker(bus_dir).start()
        with bus.Producer(bus_dir, autostart=False) as producer:
            assert producer.send("t", b"x").get(timeout=10).offset == 0


def test_without_autostart_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError, match="does not exist"):
        bus.Producer(tmp_path / "bus", autostart=False)
    assert contents(tmp_path) == []
    BusDirectory.create(tmp_path).close()
    with pytest.raises(BrokerNotRunningError, match=f"bus serve {tmp_path}"):
        bus.Consumer("t", bootstrap_servers=tmp_path, autostart=False)


def test_a_file_of_truth_that_nothing_can_make_anew_keeps_the_broker_from_starting(
    bus_dir: Path,
) -> None:
    memory = bus.NewTopic("t", topic_configs={"durability": "memory"})
    with bus.Broker(bus_dir), bus.Admin(bus_dir) as admin:
        admin.create_topics([memory])
    files = [bus_dir / "topics/t/topic.json", bus_dir / "topics/t/topic.json.copy"]
    before = [file.read_bytes() for file in files]
    for file in files:
        file.write_text("{")
    for make in HANDLES:
        with pytest.raises(CorruptSegmentError, match=r"topic\.json is damaged .*--repair"):
            make(bus_dir)
    for file, data in zip(files, before, strict=True):
        file.write_bytes(data)
    with bus.Broker(bus_dir), bus.Producer(bus_dir) as producer:
        assert producer.send("t", b"y").get(timeout=10).offset == 0
