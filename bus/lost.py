"""Records that a producer sent and that will never be durable: why not."""

from bus.client import Client
from bus.errors import RecordsLostError
from bus.native.core import Partition


def loss_at(log: Partition, offset: int) -> RecordsLostError | None:
    """The error for the record at that offset, if it was lost before it was durable."""
    lost = log.lost_at(offset) if offset >= 0 else None
    return None if lost is None else _error(log, *lost)


def new_loss(log: Partition) -> RecordsLostError | None:
    """The error for the losses since the last call, by whichever producer the records were."""
    lost = [(first, end) for first, end in log.lost() if end > log.losses_seen]
    if not lost:
        return None
    first, log.losses_seen = lost[0][0], max(end for _, end in lost)
    return _error(log, first, log.losses_seen)


def report_of(client: Client, log: Partition) -> str:
    """The reason for which the partition's replica stopped, as far as it said one."""
    for topic in client.topics():
        if topic.id == log.topic_id:
            relative = f"topics/{topic.name}/{log.partition}/replica-report.json"
            report = client.directory.read_json(relative)
            if report is not None:
                return str(report.get("reason", "no reason given"))
    return "it left no report"


def _error(log: Partition, first: int, end: int) -> RecordsLostError:
    return RecordsLostError(
        f"records {first} to {end - 1} of partition {log.partition} of topic id {log.topic_id} were"
        " damaged in the hot log before they were durable, and are lost; send them again",
        offset=first,
        partition=log.partition,
        reason="lost before they were durable",
        next_offset=end,
    )
