"""A share group at rest, and who reads what it keeps: its ack table, and groups/GROUP.acks."""

from bus.ack_tables import open_table
from bus.directory import BusDirectory
from bus.errors import CorruptSegmentError
from bus.groups import Groups
from bus.kept_acks import believed
from bus.native.core import Bells, Partition, ShareCore, ShareCursor
from tests.broker.hotlog import HotLog

GROUP = "s"
PARTITION = (1, 0)
_READY, _RUNNING, _DELAYED, _DEAD = 1, 3, 4, 6


class ShareReaders:
    """Works through a table as a member does, and looks at it as a broker does."""

    def __init__(self, hot: HotLog, groups: Groups) -> None:
        self._hot = hot
        self._group_id = groups.ensure(GROUP).id
        self._name = groups.share(GROUP, "queue", PARTITION, 0)
        self.table = hot.hot.path / self._name
        for _ in range(3):  # there are records done, returned and delayed in it
            self.work()
        groups.acks.keep_all()
        self.kept_as = f"groups/{GROUP}.acks"
        path = hot.directory.path / self.kept_as
        self.kept = [path, path.with_name(f"{path.name}.copy")]

    def work(self) -> None:
        """Claim some records, and say of each something else. Raises BusError."""
        bells = Bells(self._hot.hot.control)
        table = open_table(self._hot.hot.fd, self._name, bells, 0)
        log = Partition(self._hot.hot.fd, *PARTITION, bells, 0)
        cursor = ShareCursor(table, log, "t", generation=1, owner=self)
        try:
            member = ShareCore()
            member._attach(bells, 0, spin_ns=0, turn_records=10, timeout_ms=0)
            member._read_from([cursor], 0, 0)
            member._serve([cursor])
            for records in member._gather(10).values():
                for record in records:
                    member._attempts(record)
                    state = (_READY, _RUNNING, _DELAYED, _DEAD, None)[record.offset % 5]
                    if state is None:
                        member.ack(record)
                    else:
                        member._settle(record, state, record.offset % 4, 1e6)
            table.snapshot(0), table.figures(), table.claimants(), table.identity, table.low
            table.reap(0, 1, 0)
        finally:
            cursor.close()

    def read_kept(self) -> None:
        """As a broker does at its start. Raises BusError."""
        with BusDirectory.open(self._hot.directory.path) as directory:
            content = directory.read_truth(self.kept_as)
        if content is None:
            raise CorruptSegmentError("nothing is kept")
        try:
            believed(content, GROUP, self._group_id)
        except ValueError as error:
            raise CorruptSegmentError(str(error)) from error
