"""`bus demo`: the bus at its main job, on real input, with a worker killed half-way.

corpus   the source files of the installed standard library
tally    what is counted in a file, and the sum over all files
worker   one worker process: tokenizes files, sends its counts, then commits
crew     the worker processes: started, one killed, ended
run      streams the files, aggregates the counts, compares with a plain loop

main ──files──► topic of 4 partitions ──► 3 workers ──counts──► topic ──► main: totals
"""
