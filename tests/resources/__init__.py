"""What runs out, and comes back: space, inodes, descriptors, address space, places, time.

life         what a program does with a bus, and what must be true once there is room again
"""
