"""Hostile bytes: files, shared memory and control messages that nobody sane would write."""
