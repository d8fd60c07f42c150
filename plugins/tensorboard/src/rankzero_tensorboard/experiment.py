"""``TensorBoardLogger.experiment``: a `SummaryWriter` of torch that writes with the logger's `EventSession`."""

from __future__ import annotations

from typing import Any

from rankzero.errors import PluginNotInstalledError
from rankzero.media.encoders import unwrap_model
from rankzero.messages import describe
from rankzero.rank import rank_zero_warn
from rankzero_tensorboard.session import EventSession

try:
    from torch.utils.tensorboard.writer import (
        FileWriter,
        SummaryWriter,
    )  # not the package, which rankzero.compat may have replaced
except ModuleNotFoundError as error:
    raise PluginNotInstalledError(
        "TensorBoardLogger.experiment is a SummaryWriter of torch, which is not installed: pip install torch"
    ) from error


class Experiment(SummaryWriter):  # type: ignore[misc]  # Any to mypy
    """A `SummaryWriter` that writes with an `EventSession`.

    Args:
        log_dir: the run's directory.
        session: writes the records, also after it was closed.
        owns_session: whether `close` closes the session.
        **options: arguments of `SummaryWriter`, for separate files of ``add_scalars`` and ``add_hparams``.
    """

    def __init__(self, log_dir: str, session: EventSession, *, owns_session: bool, **options: Any) -> None:
        self._session = session
        self._owns_session = owns_session
        self.file_writer: _FileWriter | None = None
        super().__init__(log_dir, **options)

    def _get_file_writer(self) -> Any:
        if self.file_writer is None:
            self.file_writer = _FileWriter(self.log_dir, self._session)
            self.all_writers = {self.log_dir: self.file_writer}
        return self.file_writer

    def close(self) -> None:
        super().close()
        if self._owns_session:
            self._session.close()


def trace(experiment: Experiment, model: Any, inputs: Any) -> None:
    """Log a model's graph by running the model; errors become warnings.

    Args:
        experiment: the writer.
        model: a torch or Lightning module.
        inputs: a tensor, or a tuple of the arguments of ``forward``; ``model.example_input_array`` if None.
    """
    model = unwrap_model(model)
    inputs = getattr(model, "example_input_array", None) if inputs is None else inputs
    if inputs is None:
        rank_zero_warn("the model's graph is not logged: the model has no example_input_array")
        return
    try:
        for prepare in ("_on_before_batch_transfer", "_apply_batch_transfer_handler"):
            inputs = getattr(model, prepare, lambda batch: batch)(inputs)
        experiment.add_graph(model, inputs)
    except Exception as error:
        rank_zero_warn(
            f"the model's graph is not logged: running the model on its example input failed: {describe(error)}"
        )


class _FileWriter(FileWriter):  # type: ignore[misc]  # Any to mypy
    """Passes records to the session, which stays open, because it is the logger's."""

    def __init__(self, log_dir: str, session: EventSession) -> None:
        self._log_dir = log_dir
        self.event_writer = session

    def get_logdir(self) -> str:
        return self._log_dir

    def close(self) -> None:
        self.flush()

    def reopen(self) -> None:
        pass
