"""Storms: everything the bus offers is used at once, everything dies at once, and it must add up.

payload     the bytes of a record, from which anybody can tell who sent it
history     what every worker writes down, so that a kill leaves at worst a torn last line
worker      what all workers have in common: deadlines, the end, the parent
producer, consumer, replayer, churner, observer      the workers, one process each
plan        topics, workers and the next action of the nemesis: pure, from a seed
nemesis     kills, stops, full disks, deletions; logs what it did
fleet       the workers of a round, started again when they die
audit       what is in the log at the end of a round
round       one storm: rage, heal, drain, audit, analyse
analysis/   the judge: pure, from a history to its violations
report      docs/soak.md
__main__    rounds for so many minutes: python -m tests.soak --minutes 60 --seed 1
"""
