"""`Run.watch`: log histograms of a model's gradients and parameters during training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

LogHistogram = Callable[[str, Any], object]


class ModelWatch:
    """Logs histograms of a torch module at every ``log_freq``-th forward pass in training mode.

    Args:
        model: a ``torch.nn.Module``.
        log: ``"gradients"``, ``"parameters"``, ``"all"`` or None.
        log_freq: the number of forward passes between logs.
        log_histogram: called with (``gradients/NAME`` or ``parameters/NAME``, values).
    """

    def __init__(self, model: Any, log: str | None, log_freq: int, log_histogram: LogHistogram) -> None:
        self._log_gradients = log in ("gradients", "all")
        self._log_parameters = log in ("parameters", "all")
        self._log_freq = max(1, log_freq)
        self._log_histogram = log_histogram
        self._passes = 0
        self._due: set[str] = set()
        self._handles = [model.register_forward_pre_hook(self)]
        if self._log_gradients:
            self._handles += [
                parameter.register_hook(self._gradient_hook(name))
                for name, parameter in model.named_parameters()
                if parameter.requires_grad
            ]

    def __call__(self, model: Any, _inputs: Any) -> None:
        """Log the parameters before a forward pass, and request the gradients that follow it."""
        if not model.training:
            return
        self._passes += 1
        if self._passes % self._log_freq:
            return
        if self._log_parameters:
            for name, parameter in model.named_parameters():
                self._log_histogram(f"parameters/{name}", parameter)
        # Log the first gradient of each parameter after this pass, even if backward() is called several times.
        self._due = {name for name, _ in model.named_parameters()} if self._log_gradients else set()

    def _gradient_hook(self, name: str) -> Callable[[Any], None]:
        def on_gradient(gradient: Any) -> None:
            if name in self._due:
                self._due.discard(name)
                self._log_histogram(f"gradients/{name}", gradient)

        return on_gradient

    def remove(self) -> None:
        """Remove the hooks from the model."""
        for handle in self._handles:
            handle.remove()

    def __reduce__(self) -> tuple[type[_NoWatch], tuple[()]]:
        # A copy of the model, such as a saved one or one for weight averaging, is not watched.
        return _NoWatch, ()


class _NoWatch:
    def __call__(self, model: Any, _inputs: Any) -> None:
        pass
