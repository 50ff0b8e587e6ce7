"""The control socket: whole requests, errors by name, and peers that misbehave."""

import os
import select
import socket
import threading
from contextlib import closing, suppress

import pytest

from bus import control
from bus.control import Connection, ControlClient, ReplyLostError, Request, listen
from bus.directory import BusDirectory
from bus.errors import (
    BrokerNotRunningError,
    BusError,
    BusTimeoutError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    UnsafeDirectoryError,
)


@pytest.fixture
def directory(tmp_path):
    with BusDirectory.create(tmp_path / ("deep" * 40)) as made:
        yield made


@pytest.fixture
def listener(directory):
    with listen(directory) as sock:
        yield sock


@pytest.fixture
def pair(directory, listener):
    """A client, and the broker's end of its connection."""
    client = ControlClient(directory, timeout_s=5)
    connection = Connection.accept(listener)
    yield client, connection
    connection.close()
    client.close()


def await_requests(connection):
    """The next requests, as soon as there are any or the connection is closed."""
    while not connection.closed:
        select.select([connection], [], [], 5)
        if requests := connection.receive():
            return requests
    return []


class Answering:
    """Serves one connection in a thread until the block ends."""

    def __init__(self, connection, answer):
        self.connection = connection
        self.answer = answer
        self.thread = threading.Thread(target=self.serve)

    def serve(self):
        while requests := await_requests(self.connection):
            for request in requests:
                self.answer(self.connection, request)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        with suppress(OSError):
            self.connection._socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()


def echo(connection, request):
    connection.reply(request, {"op": request.op, **request.args})


def test_a_call_is_answered(pair):
    client, connection = pair
    with Answering(connection, echo):
        assert client.call("topic", name="t", create=True) == {
            "op": "topic",
            "name": "t",
            "create": True,
        }


def test_an_error_of_the_broker_is_raised_as_its_class(pair):
    client, connection = pair

    def refuse(connection, request):
        connection.fail(request, InvalidTopicError("bad name"))

    with Answering(connection, refuse), pytest.raises(InvalidTopicError, match=r"^bad name$"):
        client.call("topic", name="/")


def test_any_other_error_of_the_broker_keeps_its_name_in_the_text(pair):
    client, connection = pair

    def fail(connection, request):
        connection.fail(request, KeyError("x"))

    with Answering(connection, fail), pytest.raises(BusError, match="KeyError: 'x'"):
        client.call("topic")


def test_a_one_way_request_gets_no_answer(pair):
    client, connection = pair
    client.send("tend", topic=1)
    (request,) = await_requests(connection)
    assert request == Request("tend", 0, {"topic": 1})
    connection.reply(request, {})
    connection.fail(request, ValueError())
    assert not connection.wants_write


def test_calls_from_several_threads_get_their_own_answers(pair):
    client, connection = pair
    wrong = []

    def ask(number):
        for turn in range(20):
            if client.call("x", n=number, t=turn) != {"op": "x", "n": number, "t": turn}:
                wrong.append((number, turn))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    with Answering(connection, echo):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_the_answer_to_a_call_that_was_given_up_is_skipped(pair):
    client, connection = pair
    with pytest.raises(BusTimeoutError, match="did not answer 'slow'"):
        client.call("slow", call_timeout_s=0)
    with Answering(connection, echo):
        assert client.call("next")["op"] == "next"


def test_requests_are_whole_however_they_are_cut(pair):
    client, connection = pair
    line = b'{"op":"a","id":1,"args":{"k":"v"}}\n{"op":"b"}\n'
    found = []
    for byte in line:
        client._socket.sendall(bytes([byte]))
        found += connection.receive()
    assert found == [Request("a", 1, {"k": "v"}), Request("b", 0, {})]


@pytest.mark.parametrize(
    "line",
    [b"x\n", b"{}\n", b"[]\n", b"7\n", b'{"op":7}\n', b'{"op":"a","args":[]}\n', b"\xff\n"],
)
def test_a_line_that_is_no_request_ends_the_connection(pair, line):
    client, connection = pair
    client._socket.sendall(line)
    assert await_requests(connection) == []
    assert connection.closed


def test_a_line_without_end_ends_the_connection_and_takes_no_more_memory(pair):
    client, connection = pair
    sent = threading.Thread(target=flood, args=(client,))
    sent.start()
    assert await_requests(connection) == []
    sent.join()
    assert connection.closed


def flood(client):
    with suppress(BrokenPipeError, ConnectionResetError):
        client._socket.sendall(b"x" * (3 * control.REQUEST_BYTES_MAX))


def test_a_request_that_is_too_large_is_refused_before_it_is_sent(pair):
    client, connection = pair
    with pytest.raises(MessageSizeTooLargeError, match="fewer topics"):
        client.call("create_topics", topics="x" * control.REQUEST_BYTES_MAX)
    with Answering(connection, echo):
        assert client.call("next")["op"] == "next"


def test_a_large_answer_goes_out_in_parts(pair):
    client, connection = pair
    answers = []
    asking = threading.Thread(target=lambda: answers.append(client.call("status")))
    asking.start()
    (request,) = await_requests(connection)
    connection.reply(request, {"text": "x" * (4 << 20)})
    assert connection.wants_write
    while connection.wants_write:
        select.select([], [connection], [], 5)
        connection.flush()
    asking.join()
    assert len(answers[0]["text"]) == 4 << 20


def test_an_answer_that_is_too_large_becomes_an_error(pair, monkeypatch):
    client, connection = pair
    monkeypatch.setattr(control, "REPLY_BYTES_MAX", 1000)
    with (
        Answering(connection, lambda c, r: c.reply(r, {"text": "x" * 1000})),
        pytest.raises(MessageSizeTooLargeError),
    ):
        client.call("status")


def test_a_client_that_takes_no_answers_is_cut_off(pair, monkeypatch):
    _, connection = pair
    monkeypatch.setattr(control, "UNSENT_BYTES_MAX", 1 << 20)
    for number in range(1, 100):
        connection.reply(Request("status", number, {}), {"text": "x" * (1 << 16)})
    assert connection.closed


def test_nobody_listening_is_said_with_the_way_out(directory):
    with pytest.raises(BrokerNotRunningError, match="bus serve"):
        ControlClient(directory)


def test_a_broker_that_dies_over_a_request_leaves_it_open_whether_it_was_done(pair):
    client, connection = pair

    def die(connection, _):
        connection.close()

    with Answering(connection, die), pytest.raises(ReplyLostError, match="look whether"):
        client.call("create_topics")
    with pytest.raises(BrokerNotRunningError) as caught:
        client.call("create_topics")
    assert not isinstance(caught.value, ReplyLostError)


def test_a_socket_left_by_a_killed_broker_is_replaced(directory):
    listen(directory).close()
    with listen(directory), closing(ControlClient(directory)) as client:
        assert client.fileno() >= 0


def test_the_socket_is_for_its_owner_alone(directory, listener):
    assert (directory.path / "broker.sock").stat().st_mode & 0o777 == 0o600


def test_the_kernel_says_who_the_client_is(pair):
    assert pair[1].pid == os.getpid()


def test_a_peer_of_another_user_is_refused(directory, listener, monkeypatch):
    client = ControlClient(directory)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert Connection.accept(listener) is None
    with pytest.raises(UnsafeDirectoryError, match="another uid"):
        ControlClient(directory)
    client.close()


def test_nobody_waiting_is_none(listener):
    assert Connection.accept(listener) is None


def test_a_client_that_hangs_up_closes_the_connection(pair):
    client, connection = pair
    client.close()
    client.close()
    assert await_requests(connection) == []
    assert connection.closed
    assert connection.receive() == []
