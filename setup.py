"""Builds the compiled core, `bus.native.core`. Everything else is in pyproject.toml."""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

NATIVE = Path("bus/native")
#: What Cython writes; it is generated at every build and never committed.
GENERATED = NATIVE / "core.c"

COMPILE_ARGS = [
    "-O3",
    "-std=gnu11",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    # Cython leaves these two in the code it generates.
    "-Wno-unused-function",
    "-Wno-unused-parameter",
]


def paths(pattern: str) -> list[str]:
    """The files of the native core that match, in an order that does not change."""
    return sorted(str(path) for path in NATIVE.glob(pattern) if path != GENERATED)


core = Extension(
    "bus.native.core",
    sources=[str(NATIVE / "core.pyx"), *paths("*.c")],
    depends=[*paths("*.h"), *paths("*.pxi"), *paths("*.pxd")],
    include_dirs=[str(NATIVE)],
    extra_compile_args=COMPILE_ARGS,
    extra_link_args=["-pthread", "-lrt"],
)

setup(ext_modules=cythonize([core], compiler_directives={"language_level": 3}))
