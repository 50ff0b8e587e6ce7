"""`bus check`: whether everything in a bus directory is what it ought to be.

damage      what is wrong, where
segment     one segment's header, frames, index and seal
partition   the durable segments as a chain, the watermark, state.json
hot         the control file and the ring
copies      hot against durable
committed   the offset tables of the groups
topics      the catalog
volatile    the shared tables in the hot directory
directory   all of it, in the order that a running bus needs
"""

from bus.check.damage import Damage
from bus.check.directory import bytes_to_check, check_directory

__all__ = ["Damage", "bytes_to_check", "check_directory"]
