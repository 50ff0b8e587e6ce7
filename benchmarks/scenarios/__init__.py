"""One module per scenario; each has a NAME, a TITLE, a function `run` and its TARGETS."""
