"""The protocols as small models, which Spin explores to the last state."""
