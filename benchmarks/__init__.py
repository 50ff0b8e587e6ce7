"""Benchmarks of the bus against its peers: `python -m benchmarks`.

A scenario measures the bus and its peers in turns, several times over, so that a noisy minute hits
all of them alike. Every record is written by one process and read by another; nothing is measured
whose payload is never touched. Ratios are taken within a round and then their median.
"""
