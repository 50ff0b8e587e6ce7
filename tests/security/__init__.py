"""Other users of the machine: what they cannot do, and what a shared bus lets them do."""
