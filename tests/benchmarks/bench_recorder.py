"""The time of `Recorder.log`, compared with Lightning's ``self.log``, and the overhead of a recorder per batch."""

import logging
import tempfile
import time
import warnings
from statistics import median

import torch
from lightning.pytorch import LightningModule, Trainer
from measuring import Table, in_turns, median_ratio

import rankzero

NAMES = [f"train/metric_{index}" for index in range(10)]
STEPS = 200
ROUNDS = 15
VALUES = {"Python number": 0.5, "tensor": torch.tensor(0.5), "tensor, on_epoch": torch.tensor(0.5)}
RATIO_LIMIT, LOG_LIMIT, BATCH_LIMIT = 0.05, 10.0, 15.0
BATCH = torch.ones(4, 2)
clock = time.perf_counter


class Module(LightningModule):
    """Logs ten values a step, and nothing else."""

    def __init__(self, value, options, taken) -> None:
        super().__init__()
        self.value, self.options, self.taken = value, options, taken
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        began = clock()
        for name in NAMES:
            self.log(name, self.value, **self.options)
        self.taken.append(clock() - began)

    def configure_optimizers(self):
        return None


def by_lightning(value, options) -> list[float]:
    taken: list[float] = []
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    trainer = Trainer(max_epochs=1, accelerator="cpu", devices=1, **quiet)
    trainer.fit(Module(value, options, taken), torch.utils.data.DataLoader(torch.ones(STEPS, 2)))
    return taken


def by_recorder(run, value, options) -> list[float]:
    taken: list[float] = []
    rec = run.recorder(progress_bar=None)
    for _ in rec.train([BATCH] * STEPS):
        began = clock()
        for name in NAMES:
            rec.log(name, value, **options)
        taken.append(clock() - began)
    return taken


def measure_log(table: Table, run, what: str) -> None:
    options = {"on_epoch": True} if "on_epoch" in what else {}
    rounds = in_turns(
        ROUNDS, lambda: by_lightning(VALUES[what], options), lambda: by_recorder(run, VALUES[what], options)
    )
    pairs = [(median(first), median(second)) for first, second in rounds]
    lightnings, ours = (median(each) / len(NAMES) * 1e6 for each in zip(*pairs, strict=True))
    table.show(f"rec.log of a {what}", ours, "µs", LOG_LIMIT)
    table.show(f"  beside self.log, {lightnings:.0f} µs", median_ratio(pairs), "×", RATIO_LIMIT, digits=4)


def measure_batch(table: Table, run) -> None:
    loader = [BATCH] * 5000

    def bare() -> list[float]:
        began = clock()
        for batch in loader:
            batch.size()
        return [clock() - began]

    def recorded() -> list[float]:
        rec = run.recorder(progress_bar=None)
        began = clock()
        for batch in rec.train(loader):
            batch.size()
            rec.log("loss", 0.5, on_epoch=True, prog_bar=True)
        return [clock() - began]

    rounds = in_turns(ROUNDS, bare, recorded)
    added = [(second[0] - first[0]) / len(loader) * 1e6 for first, second in rounds]
    table.show("a batch with one value, a row every 50", median(added), "µs", BATCH_LIMIT)
    table.show_noise([first[0] for first, _ in rounds])


def main() -> None:
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "rankzero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    table = Table(f"A recorder's log call, {ROUNDS} rounds of {STEPS} steps of {len(NAMES)}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        run = rankzero.start("csv", project="bench", dir=directory, delivery="off")
        for what in VALUES:
            measure_log(table, run, what)
        measure_batch(table, run)
        run.finish()
    table.exit()


if __name__ == "__main__":
    main()
