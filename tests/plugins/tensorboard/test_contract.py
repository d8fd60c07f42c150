"""`TensorBoardLogger` keeps the contract, read back with TensorBoard's own reader."""

from servers.event_files import tracked
from servers.full_disk import full_disk

from rankzero.testing import ALL, LoggerContract
from rankzero_tensorboard import TensorBoardLogger


class TestTensorBoardLogger(LoggerContract):
    capabilities = ALL - {
        "float64",
        "big_ints",
        "typed_params",
        "status",  # there is one only beside hyperparameters: see test_hparams.py
        "artifact",
        "checkpoint",
        "tags",
        "define_metric",
    }
    sdk_module = "tensorboard"

    def make_logger(self, tmp_path):
        return TensorBoardLogger(tmp_path / "logs")

    def break_tracker(self, logger):
        return full_disk()

    def read_back(self, logger):
        return tracked(logger.log_dir)


class TestTensorBoardLoggerBesideTheRuns(TestTensorBoardLogger):
    def make_logger(self, tmp_path):
        return TensorBoardLogger()
