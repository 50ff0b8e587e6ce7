"""The catalog on disk, as the checker needs it: which topics there are and what they promise."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bus.check.damage import Findings
from bus.check.files import number_in
from bus.check.truth import read_object
from bus.config import TopicConfig
from bus.directory import BusDirectory
from bus.errors import BusError


@dataclass(frozen=True, slots=True)
class CheckedTopic:
    """A topic that topic.json describes well enough to look at its partitions."""

    id: int
    name: str
    partitions: int
    replicated: bool
    #: Compaction leaves holes in the offsets; without it they follow each other.
    dense: bool
    path: Path


def read_topics(directory: BusDirectory, findings: Findings) -> list[CheckedTopic]:
    """Every topic of the bus in `directory`, by name. Notes damaged and doubled descriptions."""
    topics = [*_read_all(directory, findings)]
    by_id: dict[int, str] = {}
    for topic in topics:
        if topic.id in by_id:
            where = findings.inside(f"topics/{topic.name}/topic.json")
            where.add(0, f"id {topic.id} is the one of topic {by_id[topic.id]!r} too")
        by_id[topic.id] = topic.name
    return topics


def _read_all(directory: BusDirectory, findings: Findings) -> Iterator[CheckedTopic]:
    try:
        paths = sorted(directory.topics_path.iterdir())
    except FileNotFoundError:  # no topic was ever made
        return
    for path in paths:
        # A topic appears by renaming its directory: what starts so is half made or gone.
        if path.name.startswith((".", "~")) or not path.is_dir():
            continue
        where = findings.inside(f"topics/{path.name}/topic.json")
        values = read_object(directory, where.file, where)
        topic = _describe(path, values, where) if values is not None else None
        if topic:
            yield topic


def _describe(path: Path, values: dict[str, Any], findings: Findings) -> CheckedTopic | None:
    topic_id = number_in(values, "id", findings, least=1)
    partitions = number_in(values, "partitions", findings, least=1)
    findings.expect(0, "name", values.get("name"), path.name)
    try:
        config = TopicConfig.from_configs(values.get("configs") or {})
    except (BusError, TypeError) as error:
        findings.add(0, f"configs cannot be used: {error}")
        return None
    if topic_id is None or partitions is None:
        return None
    dense = "compact" not in config.cleanup_policy
    return CheckedTopic(topic_id, path.name, partitions, config.replicated, dense, path)
