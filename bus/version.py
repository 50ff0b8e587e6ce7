"""The version of this package, where nothing heavy is imported to learn it."""

__version__ = "0.1.0"
