"""Deaths at single instructions of the native core, by ptrace.

`native/paths.c` has the table of operations that are swept: a new one is one more row.
"""
