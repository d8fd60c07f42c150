"""Two ranks train; rank one is slow to write its part of each checkpoint."""

import os
import time

import torch
from transformers import Trainer, TrainingArguments

from rankzero.integrations.transformers import RankzeroCallback


class Model(torch.nn.Linear):
    def forward(self, input_ids, labels):
        return {"loss": super().forward(input_ids).square().mean()}


class SlowRank(Trainer):
    def _save_rng_state(self, output_dir):
        time.sleep(2 * int(os.environ["RANK"]))
        super()._save_rng_state(output_dir)


rows = [{"input_ids": torch.ones(2), "labels": torch.ones(1)}] * 16
arguments = TrainingArguments("out", max_steps=3, save_steps=1, save_total_limit=1, logging_steps=1, use_cpu=True)
callback = RankzeroCallback("csv", run_id="ranks", delivery="off")
SlowRank(Model(2, 1), arguments, train_dataset=rows, callbacks=[callback]).train()
callback.run.log_text("note", "from each rank")
