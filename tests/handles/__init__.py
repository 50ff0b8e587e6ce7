"""What holds for every handle: Ctrl-C, close(), fork, pickle and threads."""
