"""The exceptions of rankzero. Every message says what is wrong, why, and what to do next.

The tree::

    RankzeroError
    ├── ConfigError (also a ValueError)            bad input, raised by start() before training begins
    │   ├── UnknownLoggerError                     no plugin has this name
    │   ├── UnknownOptionError                     the logger takes no such option
    │   └── MissingSecretError                     a config contains ${NAME}, and NAME is not set
    ├── PluginError
    │   ├── PluginNotInstalledError (also a ModuleNotFoundError)
    │   ├── DuplicatePluginError                   two distributions provide the same name
    │   └── BrokenPluginError                      a plugin is installed but cannot be loaded
    ├── RunError
    │   ├── RunNotFoundError                       no run has this path, id or name
    │   ├── RunInUseError                          another process is writing to this run
    │   ├── NotAFileError (also an OSError)        a link, a pipe or a directory in place of a file
    │   ├── UnsafePathError (also a ValueError)   a path leads out of the run's directory
    │   └── UntrustedRunError                      a run of another user names its destination
    ├── DeliveryError                              raised by loggers, caught by the courier
    │   ├── TrackerUnavailableError                the tracker is down; retry later
    │   │   └── AccessError                        login refused, or the project does not exist
    │   ├── FlushPostponedError                    not an error: pass new events before waiting
    │   ├── PossiblyRejectedError                  retry; reject the event if the next one succeeds
    │   └── RejectedError                          do not retry: the event goes to the reject list
    ├── RecorderError (also a ValueError)          wrong use of a recorder; raised by the call
    └── ExperimentUnavailableError                 the SDK's live object is in another process

`may_be_rejection` decides for any other exception of a logger whether a courier may reject the event.
"""

from __future__ import annotations

import errno
from json import JSONDecodeError

_DATA_ERRORS = (
    TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError, NotImplementedError
)  # fmt: skip
_FILE_ERRORS = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_FILE_ERROR_MODULES = ("builtins", "shutil", "PIL")  # HTTP clients define their OSErrors in other modules
_SYSTEM_ERRNOS = {  # the network, the disk, an unmounted file system: not the fault of one file
    errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO,
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENETDOWN,
    errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENOTCONN,
}  # fmt: skip


class RankzeroError(Exception):
    """Base class of all exceptions of rankzero."""


class ConfigError(RankzeroError, ValueError):
    """An argument of ``start()``, an environment variable or a config file is invalid."""


class UnknownLoggerError(ConfigError):
    """There is no logger of this name, installed or installable."""


class UnknownOptionError(ConfigError):
    """The logger has no option of this name."""


class MissingSecretError(ConfigError):
    """A config contains ``${NAME}``, and the environment variable NAME is not set."""


class PluginError(RankzeroError):
    """Base class of errors about plugins."""


class PluginNotInstalledError(PluginError, ModuleNotFoundError):
    """The plugin, or the SDK that it needs, is not installed."""


class DuplicatePluginError(PluginError):
    """Two installed distributions provide a plugin of the same name."""


class BrokenPluginError(PluginError):
    """A plugin is installed, but importing it failed."""


class RunError(RankzeroError):
    """Base class of errors about a run's directory."""


class RunNotFoundError(RunError, FileNotFoundError):
    """No run was found: its directory has no journal."""


class RunInUseError(RunError):
    """Another living process is writing to this run."""


class NotAFileError(RunError, OSError):
    """rankzero expected a regular file and found a link, a pipe, a device or a directory."""


class UnsafePathError(RunError, ValueError):
    """A path, such as one in a journal, leads out of the directory that it must stay in."""


class UntrustedRunError(RunError):
    """The journal of another user's run names a destination that this user did not approve."""


class DeliveryError(RankzeroError):
    """Base class of errors that loggers raise when the tracker does not accept data."""


class TrackerUnavailableError(DeliveryError):
    """The tracker cannot be reached or has a temporary failure; the courier retries."""


class AccessError(TrackerUnavailableError):
    """The tracker refuses the login (a wrong key, no permission), or the project or server does not exist.

    No event is the cause, and a retry fails until a person acts. During training a courier keeps retrying; ``rankzero
    sync`` and ``rankzero deliver`` end at once with the message.
    """


class FlushPostponedError(DeliveryError):
    """``flush()`` would have to wait after training: the courier passes new events first, then calls it again.

    This is not a failure. A logger with `Logger.finalize_acknowledges` may raise it once for each flush.
    """


class RejectedError(DeliveryError):
    """The tracker rejected an event permanently; the courier does not retry it.

    Raise it only if the tracker's API says that the event itself is invalid or too large.
    """


class PossiblyRejectedError(DeliveryError):
    """The tracker refused an event, perhaps permanently: a 400 or 422 without a reason, or one of a proxy.

    The courier retries the event. It rejects the event after several failures if the tracker accepts the next one.
    While the tracker accepts nothing, no event is rejected.
    """


class RecorderError(RankzeroError, ValueError):
    """Wrong use of a recorder: an invalid value or option, or a call outside of its loop."""


class ExperimentUnavailableError(RankzeroError):
    """``run.experiment`` is not available, because the courier's process has the SDK's object."""


def is_data_error(error: Exception) -> bool:
    """Return whether an exception is of a type that invalid values and arguments raise."""
    if isinstance(error, OSError):
        return isinstance(error, _FILE_ERRORS)
    return isinstance(error, _DATA_ERRORS) and not isinstance(error, JSONDecodeError)  # an answer that is not JSON


def may_be_rejection(error: Exception) -> bool:
    """Return whether the event may have caused an exception of a logger; if not, the tracker is unavailable.

    True for `RejectedError` and `PossiblyRejectedError`, exceptions about values (``TypeError``, …), ``RuntimeError``,
    ``MemoryError``, ``EOFError``, and exceptions about a file (``PermissionError``, …). False for errors of the network
    or an HTTP client, a full disk, and an answer that is not JSON.
    """
    if isinstance(error, DeliveryError):
        return isinstance(error, RejectedError | PossiblyRejectedError)
    if isinstance(error, OSError):
        return (
            type(error).__module__.partition(".")[0] in _FILE_ERROR_MODULES
            and not isinstance(error, ConnectionError | TimeoutError)
            and error.errno not in _SYSTEM_ERRNOS
        )
    return is_data_error(error) or isinstance(error, RuntimeError | MemoryError | EOFError)
