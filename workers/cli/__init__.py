"""The command line: `python -m workers`; a file for each command."""
