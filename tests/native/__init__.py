"""The native core, tested in C and under the sanitizers."""
