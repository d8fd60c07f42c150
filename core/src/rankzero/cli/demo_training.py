"""The training of ``rankzero demo``: a small classifier of handwritten digits that logs every kind of data.

The digits are part of scikit-learn, so nothing is downloaded. The model is trained with PyTorch if it is installed,
otherwise with scikit-learn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from rankzero.errors import PluginNotInstalledError

if TYPE_CHECKING:
    from rankzero.run.run import Run

BATCH = 32
LEARNING_RATE = 2e-3
HIDDEN = 64
SEED = 0
_SAMPLES = 8
_ZOOM = 8  # an image of 8 by 8 pixels is hard to see


class Digits(NamedTuple):
    """Images of 8 by 8 pixels as rows of 64 numbers from 0 to 1, with the digits that they show."""

    train_x: Any
    train_y: Any
    val_x: Any
    val_y: Any


def load_digits() -> Digits:
    """Return the handwritten digits that ship with scikit-learn.

    Raises:
        PluginNotInstalledError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ModuleNotFoundError as error:
        raise PluginNotInstalledError(
            'the demo needs scikit-learn, which contains the handwritten digits: pip install "rankzero[demo]"'
        ) from error
    x, y = load_digits(return_X_y=True)
    train_x, val_x, train_y, val_y = train_test_split(x / 16, y, test_size=0.2, random_state=SEED, stratify=y)
    return Digits(train_x, train_y, val_x, val_y)


class Classifier(Protocol):
    """The model of the demo, in either library."""

    library: str
    suffix: str
    """The file suffix of a checkpoint."""

    def train(self, x: Any, y: Any) -> Any:
        """Train on a batch; return the loss in the type of the library."""

    def probabilities(self, x: Any) -> Any:
        """Return the probability of each digit, an array with ten columns."""

    def weights(self) -> dict[str, Any]:
        """Return the weights by layer."""

    def save(self, path: Path) -> None:
        """Save a checkpoint."""


class TorchClassifier:
    """A multilayer perceptron in PyTorch."""

    library = "PyTorch"
    suffix = ".pt"

    def __init__(self) -> None:
        import torch
        from torch import nn

        torch.manual_seed(SEED)
        self._torch = torch
        self._model = nn.Sequential(nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10))
        self._optimizer = torch.optim.Adam(self._model.parameters(), lr=LEARNING_RATE)

    def train(self, x: Any, y: Any) -> Any:
        torch = self._torch
        logits = self._model(torch.as_tensor(x, dtype=torch.float32))
        loss = torch.nn.functional.cross_entropy(logits, torch.as_tensor(y))
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    def probabilities(self, x: Any) -> Any:
        with self._torch.no_grad():
            logits = self._model(self._torch.as_tensor(x, dtype=self._torch.float32))
            return logits.softmax(dim=1).double().numpy()

    def weights(self) -> dict[str, Any]:
        return {name: value for name, value in self._model.named_parameters() if name.endswith("weight")}

    def save(self, path: Path) -> None:
        self._torch.save(self._model.state_dict(), path)


class SklearnClassifier:
    """The same multilayer perceptron in scikit-learn."""

    library = "scikit-learn"
    suffix = ".npz"

    def __init__(self) -> None:
        from sklearn.neural_network import MLPClassifier

        self._model = MLPClassifier((HIDDEN,), learning_rate_init=LEARNING_RATE, random_state=SEED)

    def train(self, x: Any, y: Any) -> Any:
        self._model.partial_fit(x, y, classes=range(10))
        return self._model.loss_

    def probabilities(self, x: Any) -> Any:
        return self._model.predict_proba(x)

    def weights(self) -> dict[str, Any]:
        return {f"{2 * index}.weight": layer for index, layer in enumerate(self._model.coefs_)}

    def save(self, path: Path) -> None:
        import numpy as np

        arrays = [*self._model.coefs_, *self._model.intercepts_]
        np.savez(path, **{f"array{index}": array for index, array in enumerate(arrays)})


def make_classifier() -> Classifier:
    """Return a PyTorch model, or one of scikit-learn if PyTorch is not installed."""
    try:
        return TorchClassifier()
    except (ImportError, OSError):  # OSError if a shared library is missing
        return SklearnClassifier()


def train(run: Run, model: Classifier, digits: Digits, epochs: int, progress: Callable[[float, float], None]) -> None:
    """Train and log.

    Args:
        run: the run to log to.
        model: the model to train.
        digits: the data.
        epochs: the number of epochs.
        progress: called with (loss, validation accuracy) after each step.
    """
    run.log_hyperparams(
        {
            "model": {"library": model.library, "layers": [64, HIDDEN, 10]},
            "optimizer": {"name": "adam", "learning_rate": LEARNING_RATE},
            "batch_size": BATCH,
            "epochs": epochs,
            "seed": SEED,
        }
    )
    checkpoints = run.dir / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    step, accuracy, best = 0, math.nan, -1.0
    for epoch in range(epochs):
        for x, y in _batches(digits, epoch):
            loss = model.train(x, y)
            run.log_metrics({"train/loss": loss}, step, epoch=epoch, stage="train")
            progress(float(loss), accuracy)
            step += 1
        accuracy = _validate(run, model, digits, step - 1, epoch)
        for name, weights in model.weights().items():
            run.log_histogram(f"weights/{name}", weights, step - 1)
        checkpoint = checkpoints / f"epoch-{epoch + 1}{model.suffix}"
        model.save(checkpoint)
        aliases = ["latest", "best"] if accuracy > best else ["latest"]
        run.log_checkpoint(checkpoint, score=accuracy, step=step - 1, aliases=aliases)
        best = max(best, accuracy)


def _validate(run: Run, model: Classifier, digits: Digits, step: int, epoch: int) -> float:
    """Log the loss and accuracy on the validation digits; return the accuracy."""
    probabilities = model.probabilities(digits.val_x)
    accuracy = float((probabilities.argmax(axis=1) == digits.val_y).mean())
    loss = _cross_entropy(probabilities, digits.val_y)
    run.log_metrics({"val/loss": loss, "val/accuracy": accuracy}, step, epoch=epoch, stage="validate")
    _log_predictions(run, digits, probabilities, step)
    _log_accuracy_by_digit(run, digits, probabilities, step)
    return accuracy


def steps_per_epoch(digits: Digits) -> int:
    """Return the number of batches per epoch."""
    return math.ceil(len(digits.train_y) / BATCH)


def _batches(digits: Digits, epoch: int) -> Iterator[tuple[Any, Any]]:
    import numpy as np

    order = np.random.default_rng(SEED + epoch).permutation(len(digits.train_y))
    for first in range(0, len(order), BATCH):
        chosen = order[first : first + BATCH]
        yield digits.train_x[chosen], digits.train_y[chosen]


def _cross_entropy(probabilities: Any, truth: Any) -> float:
    import numpy as np

    return float(-np.log(probabilities[np.arange(len(truth)), truth] + 1e-12).mean())


def _log_predictions(run: Run, digits: Digits, probabilities: Any, step: int) -> None:
    """Log some images with their predictions, wrong ones first."""
    import numpy as np

    if not _can_encode_images():
        return
    predicted = probabilities.argmax(axis=1)
    order = np.argsort(predicted == digits.val_y, kind="stable")[:_SAMPLES]
    images = [np.kron(digits.val_x[each].reshape(8, 8), np.ones((_ZOOM, _ZOOM))) for each in order]
    captions = [_caption(predicted[each], digits.val_y[each], probabilities[each].max()) for each in order]
    run.log_image("predictions", images, step=step, caption=captions)


def _can_encode_images() -> bool:
    try:
        import PIL  # noqa: F401
    except ImportError:
        return False
    return True


def _caption(predicted: int, truth: int, probability: float) -> str:
    verdict = "right" if predicted == truth else f"wrong, it is {truth}"
    return f"{predicted} ({probability:.0%}): {verdict}"


def _log_accuracy_by_digit(run: Run, digits: Digits, probabilities: Any, step: int) -> None:
    predicted = probabilities.argmax(axis=1)
    rows: list[Sequence[Any]] = []
    for digit in range(10):
        shown = digits.val_y == digit
        right = int((predicted[shown] == digit).sum())
        rows.append((digit, int(shown.sum()), right, right / int(shown.sum())))
    run.log_table("accuracy by digit", columns=["digit", "images", "right", "accuracy"], data=rows, step=step)
