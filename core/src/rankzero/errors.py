"""The exceptions of rankzero. Every message says what is wrong, why, and what to do next.

The tree::

    RankzeroError
    ├── ConfigError (also a ValueError)            bad input, raised by start() before training begins
    │   ├── UnknownLoggerError                     no plugin has this name
    │   ├── UnknownOptionError                     the logger takes no such option
    │   └── MissingSecretError                     ${NAME} stands in a config, and NAME is not set
    ├── PluginError
    │   ├── PluginNotInstalledError (also a ModuleNotFoundError)
    │   ├── DuplicatePluginError                   two distributions claim one name
    │   └── BrokenPluginError                      a plugin is there but cannot be loaded
    ├── RunError
    │   ├── RunNotFoundError                       no journal under this path or run id
    │   ├── RunInUseError                          another living process writes this run's journal
    │   ├── NotAFileError (also an OSError)        a link, a pipe or a directory where a file is to be
    │   ├── UnsafePathError (also a ValueError)   a path leads out of the run's directory
    │   └── UntrustedRunError                      somebody else's run names a place to deliver to
    ├── DeliveryError                              raised by loggers, caught by the courier
    │   ├── TrackerUnavailableError                try again later
    │   │   └── AccessError                        a person must act first: the user or the project is not accepted
    │   ├── FlushPostponedError                    go on first, if there is more: the rest takes a while
    │   ├── PossiblyRejectedError                  try again; reject it if the tracker takes what follows
    │   └── RejectedError                          never try again: goes to the reject list
    ├── RecorderError (also a ValueError)          a recorder was used wrongly; raised by the call
    └── ExperimentUnavailableError                 the live SDK object cannot be reached from this process

`may_be_rejection` says what any other exception that a logger raises means to a courier.
"""

from __future__ import annotations

import errno
from json import JSONDecodeError

_DATA_ERRORS = (
    TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError, NotImplementedError
)  # fmt: skip
_FILE_ERRORS = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_OF_FILES = ("builtins", "shutil", "PIL")  # whose OSErrors are about a file; those of HTTP clients have other modules
_OF_MACHINE_OR_NETWORK = {  # a mount that is gone, too
    errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO,
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENETDOWN,
    errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENOTCONN,
}  # fmt: skip


class RankzeroError(Exception):
    """The root of every exception that rankzero raises on purpose."""


class ConfigError(RankzeroError, ValueError):
    """The input of ``start()``, an environment variable or a config file is wrong."""


class UnknownLoggerError(ConfigError):
    """No installed or known plugin provides a logger of this name."""


class UnknownOptionError(ConfigError):
    """An option was given that the logger's constructor does not take."""


class MissingSecretError(ConfigError):
    """A config names ``${NAME}``, and the environment has no such variable."""


class PluginError(RankzeroError):
    """Something is wrong with a plugin."""


class PluginNotInstalledError(PluginError, ModuleNotFoundError):
    """The plugin, or the SDK that it needs, is known but not installed."""


class DuplicatePluginError(PluginError):
    """Two distributions provide a logger of the same name."""


class BrokenPluginError(PluginError):
    """A plugin is installed, but importing it failed."""


class RunError(RankzeroError):
    """Something is wrong with a run's directory."""


class RunNotFoundError(RunError, FileNotFoundError):
    """There is no journal where one was asked for."""


class RunInUseError(RunError):
    """The run's journal is being written by another living process."""


class NotAFileError(RunError, OSError):
    """A link, a pipe, a device or a directory is where rankzero reads or writes a file."""


class UnsafePathError(RunError, ValueError):
    """A path that must stay in a directory, as those in a journal must, leads out of it."""


class UntrustedRunError(RunError):
    """A run that the user did not start names where it is to be delivered, and the user did not agree."""


class DeliveryError(RankzeroError):
    """A logger could not hand an event to its tracker."""


class TrackerUnavailableError(DeliveryError):
    """The tracker did not answer, or answered with something that a retry can mend."""


class AccessError(TrackerUnavailableError):
    """The tracker refuses the user (a wrong key, no permission), or the project or server named does not exist.

    No event is to blame, and no retry helps before a person acts. A courier beside a training run tries on, since that
    may happen; ``rankzero sync`` and ``rankzero deliver`` end with the message at once.
    """


class FlushPostponedError(DeliveryError):
    """``flush()`` would have to wait, and training is over: what is new is to be handed over first, then asked again.

    Nothing has failed. A logger that has `Logger.finalize_acknowledges` may raise it, once for each flush.
    """


class RejectedError(DeliveryError):
    """The tracker refused an event for good; no retry can mend it.

    For a refusal that is certain: the tracker's API says of the event itself that it is invalid or too large.
    """


class PossiblyRejectedError(DeliveryError):
    """The tracker refused an event, perhaps for good: a 400 or 422 that does not say why, or may be a proxy's.

    The event is tried again. It is rejected when it has failed several times and the tracker then takes the event that
    follows it, and never while the tracker takes nothing.
    """


class RecorderError(RankzeroError, ValueError):
    """A recorder was asked for what it cannot do: a wrong value or option, or a call in the wrong place."""


class ExperimentUnavailableError(RankzeroError):
    """The live SDK object lives in a courier process, and this tracker cannot be joined from a second one."""


def is_data_error(error: Exception) -> bool:
    """Return whether an exception is of a kind that wrong values and arguments cause."""
    if isinstance(error, OSError):
        return isinstance(error, _FILE_ERRORS)
    return isinstance(error, _DATA_ERRORS) and not isinstance(error, JSONDecodeError)  # an answer that is no JSON


def may_be_rejection(error: Exception) -> bool:
    """Return whether an exception of a logger may be due to the event; otherwise the tracker is unavailable.

    It may be if it is a `RejectedError` or `PossiblyRejectedError`, an exception of wrong values (``TypeError``, …), a
    ``RuntimeError``, ``MemoryError`` or ``EOFError``, or about a file (``PermissionError``, …). It is not if the
    network, an HTTP client, a full disk or an answer that is no JSON is the cause.
    """
    if isinstance(error, DeliveryError):
        return isinstance(error, RejectedError | PossiblyRejectedError)
    if isinstance(error, OSError):
        return (
            type(error).__module__.partition(".")[0] in _OF_FILES
            and not isinstance(error, ConnectionError | TimeoutError)
            and error.errno not in _OF_MACHINE_OR_NETWORK
        )
    return is_data_error(error) or isinstance(error, RuntimeError | MemoryError | EOFError)
