"""`python -m workers`: see workers/cli/main.py."""

from workers.cli.main import main

if __name__ == "__main__":
    main(prog_name="workers")
