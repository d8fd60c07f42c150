"""The contracts for `TensorBoardLogger`, with TensorBoard's own reader."""

from servers.event_files import tracked

from rankzero.testing import ALL, DeliveryContract, LoggerContract
from rankzero.testing.full_disk import full_disk
from rankzero_tensorboard import TensorBoardLogger


class TensorBoard:
    capabilities = ALL - {
        "float64",
        "big_ints",
        "typed_params",
        "status",  # only with hyperparameters: see test_hparams.py
        "artifact",
        "checkpoint",
        "tags",
        "define_metric",
    }
    sdk_module = "tensorboard"

    def make_logger(self, tmp_path):
        return TensorBoardLogger(tmp_path / "logs")

    def read_back(self, logger):
        return tracked(logger.log_dir)


class TestLogger(TensorBoard, LoggerContract):
    def break_tracker(self, logger):
        return full_disk()


class TestDelivery(TensorBoard, DeliveryContract):
    def make_logger(self, tmp_path):
        return TensorBoardLogger()
