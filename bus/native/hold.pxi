# A mutex held from the begin of a `with` block to its end, whatever a signal handler raises.

cdef class Hold:
    """Context manager: takes the mutex of a table, has what a dead one left repaired, gives back.

    Python runs signal handlers between any two steps of its own, so a `with` over Python code may
    be left before its `try` begins, or after its `finally` did. Within this class there is no such
    instant, but in `repair`, and who is interrupted there gives the mutex back unrepaired: the next
    one repairs.
    """
    cdef object table, timeout_ms, repair, explain

    def __init__(self, table, timeout_ms, repair, explain):
        """repair() mends what a dead holder left; explain(LockTimeoutError) is what to raise."""
        self.table = table
        self.timeout_ms = timeout_ms
        self.repair = repair
        self.explain = explain

    def __enter__(self):
        try:
            died = self.table.lock(self.timeout_ms)
        except _errors.LockTimeoutError as error:
            raise self.explain(error) from error
        if died:
            try:
                self.repair()
            except BaseException:
                self.table.unlock()
                raise
            self.table.repaired()

    def __exit__(self, kind, error, traceback):
        self.table.unlock()
