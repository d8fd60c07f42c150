"""One pass over batches, or the time between two of them: what was logged there, and where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from rankzero.errors import RecorderError
from rankzero.messages import OnceWarner
from rankzero.recorder.batch_size import batch_sizes
from rankzero.recorder.metrics import Entry, MetricEntry, NumberEntry, make_entry
from rankzero.recorder.options import LogOptions, Place
from rankzero.recorder.values import checked, is_tensor

_UNKNOWN = object()


class Loop:
    """What is logged until the loop ends.

    Args:
        stage: ``train``, ``validate`` or ``test``; None between the loops.
        place: where its log calls stand.
        warner: warns of what is logged in a doubtful way.
        is_kept: whether what is logged reaches loggers and can be read.
    """

    def __init__(self, stage: str | None, place: Place, warner: OnceWarner, *, is_kept: bool = True) -> None:
        self.stage = stage
        self.place = place
        self.is_kept = is_kept
        self._warner = warner
        self.batch_idx = -1
        self.loader_idx = 0
        self.dataloader_idx: int | None = None
        """As it is added to names; None with one loader."""
        self.is_due = place is Place.EVALUATION
        """Whether this batch's step values are written when it ends."""
        self.is_in_batch = False
        self.has_logged = False
        """Whether anything was logged in this batch."""
        self.left_at: int | None = None
        """The step at which it was left before its end."""
        self._batch: Any = None
        self._batch_size: Any = _UNKNOWN
        self._entries: dict[tuple[str, int | None], Entry] = {}
        self._by_written_name: dict[str, Entry] = {}

    def begin_loader(self, loader_idx: int, *, is_one_of_several: bool) -> None:
        """Go on to the next loader."""
        self.batch_idx = -1
        self.loader_idx = loader_idx
        self.dataloader_idx = loader_idx if is_one_of_several else None

    def begin_batch(self, batch: Any) -> None:
        """Go on to the next batch."""
        self._batch, self._batch_size = batch, _UNKNOWN
        self.batch_idx += 1
        self.is_in_batch, self.has_logged = True, False

    def end_batch(self) -> None:
        """Let go of the batch."""
        self._batch = None
        self.is_in_batch = False

    def add(self, name: str, value: Any, given: tuple[Any, ...], batch_size: Any) -> Entry:
        """Take in what was logged.

        Args:
            name: the metric's.
            value: a number, a tensor of one element or a torchmetrics Metric.
            given: the options, in the order of `LogOptions`.
            batch_size: the weight of ``value`` in a mean; that of the batch if None.

        Raises:
            RecorderError: what was logged cannot be, or not here, or not like this beside what came before.
        """
        value = checked(name, value)
        entry = self._entries.get((name, self.dataloader_idx))
        is_new = entry is None
        if entry is None:
            entry = self._new_entry(name, value, LogOptions(*given))
        elif entry.given != given:
            raise RecorderError(
                f"log({name!r}, …) came twice {self.place.value} with different options: "
                f"{_difference(entry.given, LogOptions(*given))}"
            )
        if isinstance(entry, NumberEntry):
            entry.add(value, self._weight(entry, batch_size))
        elif isinstance(entry, MetricEntry):
            entry.add(value)
            if entry.on_step and entry.last is None:
                self._warner.warn(
                    f"no step value {name}",
                    f"the metric {name!r} has no value of the step, for only its update() was called: call the object "
                    "itself, or log it with on_step=False, on_epoch=True",
                )
        if is_new:  # only now: of a call that is refused nothing is kept
            self._entries[name, self.dataloader_idx] = entry
            self._by_written_name |= dict.fromkeys((entry.step.name, entry.epoch.name), entry)
        self.has_logged = True
        return entry

    def _new_entry(self, name: str, value: Any, options: LogOptions) -> Entry:
        entry = make_entry(name, value, options, self.place, self.dataloader_idx)
        for written in (entry.step.name, entry.epoch.name):
            if (other := self._by_written_name.get(written)) is not None:
                raise RecorderError(
                    f"log({name!r}, …) {self.place.value} would be written as {written!r}, as log({other.name!r}, …) "
                    "is already; give one of them another name"
                )
        if entry.on_epoch and is_tensor(value) and not value.is_floating_point():
            self._warner.warn(
                f"integer {name}",
                f"the metric {name!r} is a tensor of {value.dtype}; it is gathered as floating point. Convert it "
                "yourself to silence this",
            )
        return entry

    def _weight(self, entry: NumberEntry, batch_size: Any) -> Any:
        if batch_size is not None:
            return checked(f"{entry.name}, batch_size", batch_size)
        if not entry.needs_weight or self.place is Place.EPOCH:
            return 1
        if self._batch_size is _UNKNOWN:
            self._batch_size = self._infer_batch_size()
        if self._batch_size is None:
            if not entry.on_epoch:
                return 1
            raise RecorderError(
                f"log({entry.name!r}, …): the mean over the epoch is weighted by batch size, and that cannot be told "
                f"from a batch of type {type(self._batch).__name__}; say it: log(…, batch_size=…)"
            )
        return self._batch_size

    def _infer_batch_size(self) -> int | None:
        sizes = batch_sizes(self._batch)
        first = next(sizes, None)
        if self.batch_idx == 0:  # to look through each batch would take too long
            self._warn_of_other_sizes(first, next((size for size in islice(sizes, 100) if size != first), None))
        return first

    def _warn_of_other_sizes(self, first: int | None, other: int | None) -> None:
        if other is not None:
            self._warner.warn(
                "batch size",
                f"the batch holds tensors of lengths {first} and {other}; means are weighted by the first. "
                "Say which is right: log(…, batch_size=…)",
            )

    def entries(self) -> Iterator[Entry]:
        """Yield what was logged, in the order in which it first came."""
        yield from self._entries.values()

    def gathers(self, name: str) -> bool:
        """Return whether ``name`` is the name of a value of this loop's epoch, or of a step that is to be reduced."""
        epochs = (entry.epoch for entry in self._entries.values() if entry.on_epoch)
        steps = (entry.step for entry in self._entries.values() if entry.on_step and entry.is_synced)
        return any(name in (label.name, label.plain_name) for label in (*epochs, *steps))


def _difference(before: LogOptions, now: LogOptions) -> str:
    pairs = zip(LogOptions._fields, before, now, strict=True)
    return ", ".join(f"{field}={one!r} and then {other!r}" for field, one, other in pairs if one != other)
