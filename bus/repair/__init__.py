"""`bus check --repair`: a bus directory at rest, put in order; nothing is taken away unsaid.

done        what was done, line by line
aside       where the bytes are kept that were there before
plants      what stands in the place of a file, and is none
metadata    topics and groups that nothing can make whole
image       a segment's bytes, made anew
partition   the durable files of a partition, as a chain
directory   all of it, in the order that lets it be interrupted anywhere, and run again
"""

from bus.repair.directory import Outcome, repair_directory
from bus.repair.done import Repair

__all__ = ["Outcome", "Repair", "repair_directory"]
