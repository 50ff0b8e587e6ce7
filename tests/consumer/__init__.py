"""What a consumer promises: reading, positions, groups, signals, closing."""
