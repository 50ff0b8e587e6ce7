"""What is left of the bus's promises when its processes are killed at random moments.

processes    the processes of a bus directory by their roles, and the end of some of them
witness      reads what is durable, and remembers it: it must never change or vanish
plan         which process is killed when: pure, from a seed
demo_round   one run of `bus demo` under fire, and what must hold after it
report       the counts of many rounds
__main__     so many rounds at once: python -m tests.faults --rounds 50 --seed 1

Storms over producers, consumers and everything else are in tests/soak.
"""
