"""What a call comes to."""

import warnings

_NAMED = (ModuleNotFoundError, ValueError, TypeError, AttributeError, RuntimeError, NotImplementedError)


def outcome(call, *args, **options):
    """Return what a call raises: the name of a built-in exception that says as much; None if it raises nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call(*args, **options)
    except Exception as error:
        return next((kind.__name__ for kind in _NAMED if isinstance(error, kind)), "Exception")
    return None
