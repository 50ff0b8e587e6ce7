"""The command line: one small file per command; `main` finds them by name.

Exit codes, the same for every command:

    0    done
    1    the bus said no, or what was looked for is wrong: damage, unequal totals, no broker
    2    could not be tried: wrong usage, no bus in that directory, a directory that is not ours
    130  interrupted with Ctrl-C
"""
