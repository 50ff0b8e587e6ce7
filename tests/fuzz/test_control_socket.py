"""The broker's control socket: whatever comes over it, the broker goes on and keeps its size."""

import json
import random
import socket
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from bus.broker import Broker
from bus.control import REQUEST_BYTES_MAX, ControlClient
from bus.directory import BusDirectory
from bus.errors import error_named

#: Requests with odd arguments, and connections with odd bytes.
ROUNDS: Final = 150
GROWTH_BYTES_MAX: Final = 96 << 20
OPERATIONS: Final = [
    *("topic", "topics", "create_topics", "delete_topics", "create_partitions", "alter_configs"),
    *("delete_records", "group", "groups", "delete_group", "tend", "status", "hello", "nonsense"),
]
ARGUMENTS: Final = [
    *("name", "create", "topics", "names", "total", "configs", "partition", "offset", "topic"),
    *("need", "slot", "generation", "validate_only", "partitions", "unknown"),
]
ODD: Final[list[Any]] = [
    *(None, True, False, 0, -1, 1, 1025, 1 << 31, 1 << 63, 1 << 64, -(1 << 70), 0.5, 1e308),
    *("", "a", "../x", "x" * 300, "\ud800", "\x00", [], ["a"], [["a"]], {}, {"a": 1}),
    *([{"name": "odd"}], [{"name": "a b"}], [{}], [{"name": "p", "partitions": -3}], "NaN"),
]
LINES: Final = {
    "brackets within brackets": b"[" * 900_000 + b"\n",
    "objects within objects": b'{"a":' * 150_000 + b"\n",
    "no JSON": b"\xff\xfe\x00\n",
    "a number": b"1\n",
    "a list": b"[]\n",
    "no operation": b'{"id": 1}\n',
    "a large number": b'{"op": "status", "id": ' + b"9" * 5000 + b"}\n",
    "a line that is too long": b"x" * (REQUEST_BYTES_MAX + (1 << 17)),
    "an id that is no number": b'{"op": "status", "id": "x"}\n',
}


def connection(path: Path) -> socket.socket:
    with BusDirectory.open(path) as directory:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(20)
        sock.connect(directory.socket_path)
    return sock


def check_alive(path: Path) -> int:
    """Asks for the broker's status; returns its pid."""
    with BusDirectory.open(path) as directory:
        client = ControlClient(directory, timeout_s=20)
        try:
            return int(client.call("status")["broker"]["pid"])
        finally:
            client.close()


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_line_that_is_no_request_ends_its_connection_alone(line: bytes, broker: Broker) -> None:
    pid = check_alive(broker.path)
    with connection(broker.path) as sock:
        try:
            sock.sendall(line)
            while sock.recv(1 << 16):
                continue
        except (BrokenPipeError, ConnectionResetError) as error:
            assert error.errno  # cut off while it was still writing
    assert check_alive(broker.path) == pid


def test_odd_arguments_get_an_error_of_the_bus(broker: Broker) -> None:
    pid = check_alive(broker.path)
    before = psutil.Process(pid).memory_info().rss
    chance = random.Random(7)
    with connection(broker.path) as sock, sock.makefile("rb") as replies:
        for number in range(1, ROUNDS + 1):
            some = chance.sample(ARGUMENTS, chance.randrange(4))
            request = {
                "op": chance.choice(OPERATIONS),
                "id": number,
                "args": {name: chance.choice(ODD) for name in some},
            }
            sock.sendall(json.dumps(request).encode() + b"\n")
            reply = json.loads(replies.readline())
            assert reply["id"] == number, request
            if "error" in reply:
                assert error_named(reply["error"], "").__class__.__name__ == reply["error"]
    assert check_alive(broker.path) == pid
    assert psutil.Process(pid).memory_info().rss < before + GROWTH_BYTES_MAX


def test_many_who_send_half_a_line_do_not_keep_others_waiting(broker: Broker) -> None:
    pid = check_alive(broker.path)
    files = psutil.Process(pid).num_fds()
    slow = [connection(broker.path) for _ in range(100)]
    try:
        for sock in slow:
            sock.sendall(b'{"op": "sta')
        assert check_alive(broker.path) == pid
        for sock in slow:  # and descriptors that nobody asked for are not kept
            socket.send_fds(sock, [b"t"], [sock.fileno()])
        assert check_alive(broker.path) == pid
        assert psutil.Process(pid).num_fds() <= files + len(slow) + 8
    finally:
        for sock in slow:
            sock.close()


def test_a_long_line_that_comes_in_small_pieces_is_taken(broker: Broker) -> None:
    request = json.dumps({"op": "nonsense", "id": 3, "args": {"x": "y" * 300_000}}).encode()
    with connection(broker.path) as sock, sock.makefile("rb") as replies:
        for at in range(0, len(request), 100):
            sock.sendall(request[at : at + 100])
        sock.sendall(b"\n")
        assert json.loads(replies.readline())["error"] == "UnsupportedVersionError"
