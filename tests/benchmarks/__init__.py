"""The arithmetic and the processes of the benchmarks; their peers are not needed for it."""
