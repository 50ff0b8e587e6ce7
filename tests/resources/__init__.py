"""What runs out, and comes back: space, inodes, descriptors, address space, places, time.

life         what a program does with a bus, and what must be true once there is room again
leftovers    what killed processes, other buses and strangers may have left
preload      the wall clock, and the disk, as we say
figures      what is measured on the way
report       docs/resources.md; real_disk.py is run for it alone
"""
