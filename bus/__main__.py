"""`python -m bus`: the same as the console script `bus`."""

from bus.cli.main import main

if __name__ == "__main__":
    main()
