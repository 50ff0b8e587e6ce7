"""What the broker does about consumers that lag: it only makes producers look again.

It closes the gate of a partition (see `lag_gate` in layout.h) when a limit or a group changes, and
when it starts. How far records may go then is for those who append to find out.
"""

from typing import Final

from bus.catalog import Topic
from bus.incidents import Incident, Incidents
from bus.inventory import Inventory
from bus.lag import NOWHERE, Skipped
from bus.open_partition import OpenPartition

#: what the gate says while none of the groups exists
OPEN_GATE: Final = NOWHERE


def limits_changed(inventory: Inventory, topic: Topic) -> None:
    """A topic has other limits, or none any more; the catalog version says so already."""
    for partition in inventory.partitions():
        if partition.topic.id == topic.id:
            partition.log.close_lag_gate(topic.config.lag_limited)


def group_changed(inventory: Inventory, group: str) -> None:
    """A group was made or deleted."""
    for partition in inventory.partitions():
        config = partition.topic.config
        if config.lag_limited and group in config.lag_groups:
            partition.log.close_lag_gate(True)


def mend(partition: OpenPartition, incidents: Incidents) -> None:
    """Have the words worked out anew, whoever wrote them; what is proven wrong is counted."""
    limited = partition.topic.config.lag_limited
    if why := _wrong_in_words(partition):
        incidents.note(Incident.LAG_GATE_MENDED, "%s: %s", partition.name, why)
    if limited or why:
        partition.log.close_lag_gate(limited)


def _wrong_in_words(partition: OpenPartition) -> str:
    """What the gate says that no look at the commits can have given."""
    config, log = partition.topic.config, partition.log
    gate = log.lag_words[0]
    if not config.lag_limited:
        return f"the lag gate is {gate:#x} in a topic without a limit" if gate else ""
    if gate == 0:
        return "the lag gate stands open, in a topic with a limit"
    if config.max_lag_records < 0 or gate == OPEN_GATE:
        return ""
    most = log.log_end_offset + config.max_lag_records + Skipped(*log.skipped_offsets).behind(0)
    return f"the lag gate is {gate:#x}, above {most + 1:#x}" if gate > most + 1 else ""
