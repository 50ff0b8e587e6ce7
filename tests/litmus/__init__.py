"""The order of memory: the pairs of stores and loads that the core relies on."""
