"""Producers wait for consumers that lag: max.lag.records and max.lag.bytes."""
