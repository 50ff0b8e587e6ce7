"""`bus serve`: run the broker, in the foreground or as a daemon."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click

from bus.address import resolve_address
from bus.autostart import environment
from bus.cli.options import config_option, directory_argument
from bus.cli.output import note
from bus.config import BrokerConfig, TopicConfig
from bus.errors import BrokerNotRunningError, error_named


@click.command()
@directory_argument
@click.option("--hot-dir", help="Where the hot segments live.  [default: below /dev/shm]")
@click.option(
    "--partitions", type=int, default=1, show_default=True, help="Of a topic made without a number."
)
@click.option(
    "--auto-create/--no-auto-create",
    default=True,
    show_default=True,
    help="Whether the first send or subscribe creates a topic.",
)
@config_option
@click.option("--shared", is_flag=True, help="Let users connect whom no topic names yet.")
@click.option("--daemon", is_flag=True, help="Return when the broker answers; it runs on.")
@click.pass_context
def serve(
    context: click.Context,
    directory: str | None,
    hot_dir: str | None,
    partitions: int,
    auto_create: bool,
    configs: dict[str, str],
    shared: bool,
    daemon: bool,
) -> None:
    """Run the broker of the bus in DIR until Ctrl-C, SIGTERM or `bus stop`.

    --config sets what topics get that are created without their own. Exit codes: 0 it was
    stopped; 1 another broker runs there; 2 the directory or an option cannot be used.
    """
    path = resolve_address(directory)
    config = BrokerConfig(
        num_partitions=partitions,
        auto_create_topics=auto_create,
        topic=TopicConfig.from_configs(configs),
        shared=shared,
    )
    if daemon:
        pid = start_daemon(path, hot_dir, config)
        note(f"the broker of {path} runs as pid {pid}; end it with: bus stop {path}")
        return
    from bus.supervisor import serve as run  # brings all of the broker with it

    note(f"serving {path}; Ctrl-C ends it")
    context.exit(run(path, hot_dir=Path(hot_dir) if hot_dir else None, config=config))


def start_daemon(path: Path, hot_dir: str | None, config: BrokerConfig) -> int:
    """Start a broker in a session of its own; its pid, once it answers.

    Raises what the broker could not start for, BrokerNotRunningError if it said nothing.
    """
    reading, writing = os.pipe()
    command = [sys.executable, "-P", "-m", "bus.supervisor", str(path), "--log-file"]
    command += ["--ready-fd", str(writing), "--config", json.dumps(config.to_json())]
    command += ["--hot-dir", str(Path(hot_dir).absolute())] if hot_dir else []
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=[writing],
            start_new_session=True,
            cwd="/",
            env=environment(),
        )
    finally:
        os.close(writing)
    with open(reading, "rb") as pipe:
        line = pipe.readline()
    # It outlives this command by design: nobody will wait for it here.
    process.returncode = 0
    return _pid_of(line, path)


def _pid_of(line: bytes, path: Path) -> int:
    if not line:
        log = path / "broker.log"
        raise BrokerNotRunningError(f"the broker ended before it could serve; see {log}")
    answer = json.loads(line)
    if "error" in answer:
        raise error_named(answer["error"], answer["message"])
    return int(answer["pid"])
