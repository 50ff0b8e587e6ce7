"""What a format says whose library is not there."""

from bus.errors import MissingLibraryError


def missing_library(library: str, extra: str) -> MissingLibraryError:
    """The error that names what to install."""
    return MissingLibraryError(
        f"this format needs {library}, which is not installed: pip install 'bus[{extra}]'"
    )
