"""The bus directory: one identity, epochs that only rise, and no way out of it."""

import json
import os
import re
import threading
from pathlib import Path

import pytest

from bus import twofold
from bus.directory import BusDirectory, Runtime, boot_id, offsets_name, pid_namespace
from bus.errors import (
    BusConfigurationError,
    BusError,
    ClosedError,
    CorruptSegmentError,
    DirectoryError,
    InvalidPartitionsError,
    InvalidTopicError,
    UnsafeDirectoryError,
    UnsupportedVersionError,
)

RUNTIME = Runtime(
    hot_dir="/dev/shm/x", epoch=3, pid=7, boot_id="b", hot_id=9, started="now", version="1"
)


@pytest.fixture
def directory(tmp_path):
    with BusDirectory.create(tmp_path / "deep" / "bus") as made:
        yield made


def test_creating_makes_the_directory_and_an_identity_that_stays(directory):
    assert re.fullmatch("[0-9a-f]{16}", directory.bus_id_hex)
    with BusDirectory.create(directory.path) as again, BusDirectory.open(directory.path) as opened:
        assert again.bus_id == opened.bus_id == directory.bus_id
    assert sorted(os.listdir(directory.path)) == ["bus.json", "bus.json.copy"]


def test_racing_creators_get_the_same_bus(tmp_path):
    barrier = threading.Barrier(8)
    found = []

    def create():
        barrier.wait()
        with BusDirectory.create(tmp_path / "bus") as made:
            found.append(made.bus_id)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert sorted(os.listdir(tmp_path / "bus")) == ["bus.json", "bus.json.copy"]


def test_opening_needs_a_bus_to_be_there(tmp_path):
    with pytest.raises(DirectoryError, match="does not exist"):
        BusDirectory.open(tmp_path / "none")
    with pytest.raises(DirectoryError, match="bus serve"):
        BusDirectory.open(tmp_path)


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        ({"format": 2, "bus_id": "0" * 16}, UnsupportedVersionError, "format 2, this version"),
        ({"format": 1, "bus_id": "xyz"}, CorruptSegmentError, "16 hexadecimal digits"),
        ({"format": 1}, CorruptSegmentError, "not None"),
    ],
)
def test_a_bus_json_of_another_kind_is_refused_with_its_cause(tmp_path, content, kind, message):
    (tmp_path / "bus.json").write_text(json.dumps(content))
    if kind is CorruptSegmentError:
        (tmp_path / "bus.json").write_bytes(twofold.encode(content, "bus.json"))
    with pytest.raises(kind, match=message):
        BusDirectory.open(tmp_path)
    with pytest.raises(kind, match=message):
        BusDirectory.create(tmp_path)


def test_a_directory_that_others_may_write_is_refused(tmp_path):
    tmp_path.chmod(0o775)
    with pytest.raises(UnsafeDirectoryError, match="chmod go-w"):
        BusDirectory.create(tmp_path)


def test_a_link_to_a_directory_of_our_own_is_the_directory(tmp_path):
    (tmp_path / "real").mkdir(0o700)
    (tmp_path / "link").symlink_to("real")
    with BusDirectory.create(tmp_path / "link") as made:
        assert made.path == tmp_path / "real"


def test_epochs_only_rise(directory):
    assert directory.epoch() == 0
    assert [directory.raise_epoch() for _ in range(3)] == [1, 2, 3]
    with BusDirectory.open(directory.path) as again:
        assert again.epoch() == 3


def test_an_epoch_that_is_no_number_is_not_taken_for_zero(directory):
    (directory.path / "epoch").write_text("x")
    with pytest.raises(CorruptSegmentError, match="epoch is damaged"):
        directory.epoch()


def test_the_runtime_comes_back_as_it_was_written(directory):
    assert directory.read_runtime() is None
    directory.write_runtime(RUNTIME)
    assert directory.read_runtime() == RUNTIME


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"hot_dir": "/x"}'])
def test_a_runtime_that_was_cut_short_counts_as_none(directory, content):
    (directory.path / "runtime.json").write_text(content)
    assert directory.read_runtime() is None


@pytest.mark.parametrize("name", ["..", "a/b", "", "../../etc"])
def test_no_topic_name_leads_out_of_the_directory(directory, name):
    for use in (directory.topic_path, directory.open_topic):
        with pytest.raises(InvalidTopicError):
            use(name)
    with pytest.raises(InvalidTopicError):
        directory.partition_path(name, 0)


@pytest.mark.parametrize("partition", [-1, 1024])
def test_no_partition_is_out_of_range(directory, partition):
    with pytest.raises(InvalidPartitionsError):
        directory.open_partition("t", partition)


@pytest.mark.parametrize("relative", ["../x", "a/../../x", "/etc/passwd", "a//b", ".", ""])
def test_no_relative_path_leads_out_of_the_directory(directory, relative):
    with pytest.raises(BusConfigurationError):
        directory.read_json(relative)
    with pytest.raises(BusConfigurationError):
        directory.write_json(relative, {})


def test_a_link_inside_is_not_followed(directory, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir(0o700)
    (outside / "x.json").write_text("{}")
    os.symlink(outside, directory.path / "topics")
    with pytest.raises(BusError, match="symbolic link"):
        directory.read_json("topics/x.json")


def test_no_group_id_leads_out_of_the_directory(directory):
    assert directory.offsets_path("../x").parent == directory.groups_path
    assert offsets_name("a/b") == "a%2Fb.offsets"
    assert offsets_name("..") == "...offsets"


def test_json_below_the_root_is_none_when_its_directory_is_not_there(directory):
    assert directory.read_json("topics/t/topic.json") is None


def test_each_lock_has_an_open_file_description_of_its_own(directory):
    one, two = directory.open_clients_lock(), directory.open_clients_lock()
    os.lseek(one, 5, os.SEEK_SET)
    assert os.lseek(two, 0, os.SEEK_CUR) == 0
    os.close(one)
    os.close(two)


def test_the_socket_path_is_short_however_deep_the_directory_lies(tmp_path):
    with BusDirectory.create(tmp_path / ("d" * 100) / ("e" * 100)) as deep:
        assert len(deep.socket_path) < 100


def test_a_closed_directory_says_so(directory):
    directory.close()
    directory.close()
    with pytest.raises(ClosedError, match="open it again"):
        directory.epoch()


def test_hot_directories_of_two_users_or_buses_do_not_meet(directory):
    name = f"bus-{os.geteuid()}-{directory.bus_id_hex}"
    assert directory.default_hot_path() == Path("/dev/shm") / name
    assert directory.fallback_hot_path() == directory.path / "hot"


def test_the_kernel_says_which_boot_and_which_namespace_this_is():
    assert len(boot_id()) == 36
    assert boot_id() == boot_id()
    assert pid_namespace() > 0
