"""What a bus is given in error, and what it answers: a typed error, and nothing stored."""
