"""Consumer groups: who owns what, and what is left when somebody dies."""
