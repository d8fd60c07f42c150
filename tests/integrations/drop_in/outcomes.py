"""The outcomes of calls."""

import warnings

_NAMED = (ModuleNotFoundError, ValueError, TypeError, AttributeError, RuntimeError, NotImplementedError)


def outcome(call, *args, **options):
    """Return the name of the exception of a call, as a built-in one; None if it raises nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call(*args, **options)
    except Exception as error:
        return next((kind.__name__ for kind in _NAMED if isinstance(error, kind)), "Exception")
    return None
