"""Measure the GPUs of NVIDIA or AMD that the training process may use; see `rankzero.capture.hardware`."""

from __future__ import annotations

import io
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from typing import Any

log = logging.getLogger("rankzero.system_metrics")


class Gpu(ABC):
    """One GPU, measured with the library of its vendor.

    Args:
        library: the Python module of the vendor.
        number: its number in ``nvidia-smi`` or ``amd-smi``.
        handle: the library's handle.
        uuid: its identifier, ``GPU-`` and more.
    """

    def __init__(self, library: Any, number: int, handle: Any, uuid: str) -> None:
        self.number = number
        self.uuid = uuid
        self._library = library
        self._handle = handle

    def measure(self) -> Iterator[tuple[str, float]]:
        """Yield (name, value) of what this GPU can measure: not all can measure everything."""
        with suppress(*self._unsupported()):
            yield "utilization_percent", self._utilization()
        with suppress(*self._unsupported()):
            used, total = self._memory()
            yield "memory_gb", round(used / 1e9, 6)
            yield "memory_percent", round(100 * used / total, 1)
        with suppress(*self._unsupported()):
            yield "power_watts", self._power()
        with suppress(*self._unsupported()):
            yield "temperature_celsius", self._temperature()

    @abstractmethod
    def _unsupported(self) -> tuple[type[Exception], ...]:
        """Return what the methods below raise if the GPU does not support them."""

    @abstractmethod
    def _utilization(self) -> float: ...

    @abstractmethod
    def _memory(self) -> tuple[int, int]:
        """Return the bytes that are used, and all."""

    @abstractmethod
    def _power(self) -> float: ...

    @abstractmethod
    def _temperature(self) -> float: ...


def visible_gpus() -> list[Gpu]:
    """Return the GPUs that the training process may use: NVIDIA's, or AMD's if there are none."""
    for find in (_nvidia_gpus, _amd_gpus):
        try:
            if found := find():
                return found
        except Exception as error:  # no GPU, no library or no driver
            log.debug("no GPU is measured: %s", error)
    return []


def _select(gpus: list[Gpu], wanted: str | None) -> list[Gpu]:
    """Return the GPUs that an environment variable names by their index in ``gpus`` or their UUID."""
    if wanted is None:
        return gpus
    found: dict[Gpu, None] = {}
    for name in map(str.strip, wanted.split(",")):
        is_uuid = name.startswith("GPU-")
        named = [gpu for index, gpu in enumerate(gpus) if name == str(index) or (is_uuid and gpu.uuid.startswith(name))]
        if len(named) != 1:  # CUDA and ROCm stop here, too
            break
        found[named[0]] = None
    return list(found)


# NVIDIA


class _NvidiaGpu(Gpu):
    def _unsupported(self) -> tuple[type[Exception], ...]:
        return (self._library.NVMLError,)

    def _utilization(self) -> float:
        return float(self._library.nvmlDeviceGetUtilizationRates(self._handle).gpu)

    def _memory(self) -> tuple[int, int]:
        memory = self._library.nvmlDeviceGetMemoryInfo(self._handle)
        return memory.used, memory.total

    def _power(self) -> float:
        return float(self._library.nvmlDeviceGetPowerUsage(self._handle) / 1000)

    def _temperature(self) -> float:
        return float(self._library.nvmlDeviceGetTemperature(self._handle, self._library.NVML_TEMPERATURE_GPU))


def _nvidia_gpus() -> list[Gpu]:
    import pynvml

    pynvml.nvmlInit()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    gpus: list[Gpu] = [
        _NvidiaGpu(pynvml, number, handle, pynvml.nvmlDeviceGetUUID(handle)) for number, handle in enumerate(handles)
    ]
    return _select(gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))


# AMD


class _AmdGpu(Gpu):
    # Where the library cannot measure, it raises an exception, or returns "N/A", for which float() raises ValueError.
    def _unsupported(self) -> tuple[type[Exception], ...]:
        return self._library.AmdSmiException, ValueError

    def _utilization(self) -> float:
        return float(self._library.amdsmi_get_gpu_activity(self._handle)["gfx_activity"])

    def _memory(self) -> tuple[int, int]:
        kind = self._library.AmdSmiMemoryType.VRAM
        used = self._library.amdsmi_get_gpu_memory_usage(self._handle, kind)
        return used, self._library.amdsmi_get_gpu_memory_total(self._handle, kind)

    def _power(self) -> float:
        info = self._library.amdsmi_get_power_info(self._handle)
        average = info["average_socket_power"]
        return float(info["current_socket_power"] if average == "N/A" else average)  # new GPUs have only the former

    def _temperature(self) -> float:
        kind, metric = self._library.AmdSmiTemperatureType.JUNCTION, self._library.AmdSmiTemperatureMetric.CURRENT
        return float(self._library.amdsmi_get_temp_metric(self._handle, kind, metric))


def _amd_gpus() -> list[Gpu]:
    with redirect_stdout(io.StringIO()):  # it prints that there is no driver
        import amdsmi

    amdsmi.amdsmi_init()
    handles = amdsmi.amdsmi_get_processor_handles()
    of_rocr = os.environ.get("ROCR_VISIBLE_DEVICES")
    of_hip = os.environ.get("HIP_VISIBLE_DEVICES") or os.environ.get("CUDA_VISIBLE_DEVICES") or None
    if of_rocr is None and of_hip is None:
        return [_AmdGpu(amdsmi, number, handle, "") for number, handle in enumerate(handles)]
    # The variables have HIP's numbers, which may differ from those of amd-smi.
    known = [(amdsmi.amdsmi_get_gpu_enumeration_info(handle), handle) for handle in handles]
    in_hip = {
        info["hip_id"]: _AmdGpu(amdsmi, number, handle, info["hip_uuid"])
        for number, (info, handle) in enumerate(known)
        if info["hip_id"] != "N/A"
    }
    # HIP numbers the GPUs that ROCr has left, from 0.
    return _select(_select([in_hip[index] for index in sorted(in_hip)], of_rocr), of_hip)
