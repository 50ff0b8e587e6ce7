"""Options that several commands share, and the values that they are given."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])

_DIRECTORY_HELP = "The bus directory.  [default: $BUS_DIR, else ~/.local/state/bus]"


def directory_argument(command: _F) -> _F:
    """`[DIR]` as an argument, for commands about the bus as a whole."""
    return click.argument("directory", metavar="[DIR]", required=False, envvar="BUS_DIR")(command)


def directory_option(command: _F) -> _F:
    """`--dir DIR`, for commands about something inside the bus."""
    return click.option("-d", "--dir", "directory", envvar="BUS_DIR", help=_DIRECTORY_HELP)(command)


def json_option(command: _F) -> _F:
    """`--json`: print one JSON document for machines."""
    option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
    return option(command)


def key_values(
    context: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    """KEY=VALUE options as a dict; a click callback."""
    values = {}
    for text in given:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", context, parameter)
        values[key] = value
    return values


def config_option(command: _F) -> _F:
    """`--config KEY=VALUE`, repeatable, as the dict `configs`."""
    return click.option(
        "-c",
        "--config",
        "configs",
        metavar="KEY=VALUE",
        multiple=True,
        callback=key_values,
        help="A topic config, as retention.ms=60000. May be given several times.",
    )(command)
