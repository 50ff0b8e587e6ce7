"""Two processes, or a few more, and a flow between them: throughput and round trips."""

import time
from collections.abc import Sequence

from benchmarks.flows.base import BatchFlow, Flow
from benchmarks.processes import Gate, Role, run_together

#: Records of the first, untimed try that tells how many fit into a sample.
TRIAL_SECONDS = 0.1
COUNT_MIN = 200
#: No sample moves more than this, however fast the transport.
BYTES_MAX = 4 << 30


class OneWay:
    """Sends `count` records through a flow and takes the time until the last one was read."""

    def __init__(self, flow: Flow, *, senders: int = 1, batch: int = 0) -> None:
        self.flow = flow
        self.senders = senders
        self.batch = batch
        self._payload = bytes(range(256)) * (flow.record_bytes // 256 + 1)
        self._payload = self._payload[: flow.record_bytes]

    def rate(self, count: int) -> float:
        """Records per second over all senders; each sends its share of `count`."""
        share = self._share(count)
        warm = self._share(max(count // 10, self.flow.warm_bytes // self.flow.record_bytes))
        self.flow.open()
        try:
            roles: list[Role] = [lambda gate: self._receive(gate, warm, share)]
            roles += [lambda gate: self._send(gate, warm, share)] * self.senders
            end, *starts = run_together(*roles)
        finally:
            self.flow.close()
        elapsed_ns: int = end - min(starts)
        return share * self.senders / (elapsed_ns / 1e9)

    def count_for(self, seconds: float) -> int:
        """How many records take about that long, found by a few growing tries."""
        count = COUNT_MIN
        while True:
            rate = self.rate(count)
            if count / rate > TRIAL_SECONDS or count * self.flow.record_bytes > BYTES_MAX / 8:
                break
            count = int(max(2 * count, rate * TRIAL_SECONDS * 1.5))
        return max(COUNT_MIN, min(int(rate * seconds), BYTES_MAX // self.flow.record_bytes))

    def _share(self, count: int) -> int:
        step = self.senders * max(self.batch, 1)
        return max(count // step, 1) * max(self.batch, 1)

    def _send(self, gate: Gate, warm: int, share: int) -> int:
        gate.wait()  # the receiver is there
        self.flow.attach_sender()
        gate.wait()
        # One record alone: iceoryx2 drops what does not fit while the connection is being made.
        self.flow.send_one(self._payload)
        gate.wait()
        self._send_records(warm)
        gate.wait()
        start = time.monotonic_ns()
        self._send_records(share)
        gate.wait()
        self.flow.detach()
        return start

    def _send_records(self, count: int) -> None:
        if self.batch and isinstance(self.flow, BatchFlow):
            self.flow.send_batches(self._payload, count, self.batch)
        else:
            self.flow.send(self._payload, count)

    def _receive(self, gate: Gate, warm: int, share: int) -> int:
        self.flow.attach_receiver()
        gate.wait()
        gate.wait()
        for _ in range(self.senders):
            self.flow.receive_one()
        gate.wait()
        self._receive_records(warm * self.senders)
        gate.wait()
        self._receive_records(share * self.senders)
        end = time.monotonic_ns()
        gate.wait()
        self.flow.detach()
        return end

    def _receive_records(self, count: int) -> None:
        if self.batch and isinstance(self.flow, BatchFlow):
            total = self.flow.receive_batches(count)
        else:
            total = self.flow.receive(count)
        if total != count * self.flow.record_bytes:
            raise AssertionError(f"{self.flow.name}: {total} bytes came, not {count} records")


class RoundTrip:
    """A record there and one back, as often as asked; two flows, one for each direction."""

    def __init__(self, there: Flow, back: Flow) -> None:
        self.there = there
        self.back = back
        self._payload = bytes(there.record_bytes)

    def times_ns(self, count: int, warm: int) -> list[int]:
        """Duration of each of `count` round trips, after `warm` untimed ones."""
        self.there.open()
        self.back.open()
        try:
            times, _ = run_together(
                lambda gate: self._ask(gate, count, warm),
                lambda gate: self._answer(gate, count + warm),
            )
        finally:
            self.there.close()
            self.back.close()
        return list(times)

    def _ask(self, gate: Gate, count: int, warm: int) -> list[int]:
        self.back.attach_receiver()
        gate.wait()
        self.there.attach_sender()
        gate.wait()
        send, receive, payload = self.there.send_one, self.back.receive_one, self._payload
        clock = time.perf_counter_ns
        times = [0] * (count + warm)
        for number in range(count + warm):
            start = clock()
            send(payload)
            receive()
            times[number] = clock() - start
        gate.wait()
        self.there.detach()
        self.back.detach()
        return times[warm:]

    def _answer(self, gate: Gate, count: int) -> None:
        self.there.attach_receiver()
        gate.wait()
        self.back.attach_sender()
        gate.wait()
        send, receive, payload = self.back.send_one, self.there.receive_one, self._payload
        for _ in range(count):
            receive()
            send(payload)
        gate.wait()
        self.there.detach()
        self.back.detach()


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of all lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
