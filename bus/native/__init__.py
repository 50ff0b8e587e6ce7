"""The compiled core. It has no stand-in: Python cannot order stores to shared memory."""

try:
    from bus.native import core as core
except ImportError as error:
    raise ImportError(
        f"the compiled core of bus cannot be loaded ({error}); build it with 'pip install .', or in"
        " a checkout with 'python setup.py build_ext --inplace'"
    ) from error
