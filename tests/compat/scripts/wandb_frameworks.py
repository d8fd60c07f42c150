"""Frameworks log to wandb in unchanged scripts: Accelerate as used by diffusers, and TRL."""

import numpy as np
import wandb
from accelerate import Accelerator
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

accelerator = Accelerator(cpu=True, log_with="wandb")
accelerator.init_trackers("accelerate", {"lr": 0.1}, {"wandb": {"name": "tiny", "tags": ["t"]}})
for step in range(3):
    accelerator.log({"loss": 1 / (step + 1)}, step=step)
pixels = np.zeros((4, 6, 3), np.uint8)
for tracker in accelerator.trackers:
    if tracker.name == "wandb":
        tracker.log({"validation": [wandb.Image(pixels, caption=f"{i}: a prompt") for i in range(2)]})
        tracker.log_images({"batch": pixels[None]}, step=2)
        tracker.log_table("table", ["a"], [[1]], step=2)
accelerator.end_training()
assert wandb.run is None

words = ["<pad>", "<eos>", "<unk>", *"abcdefghijkl"]
tokens = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
tokens.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
config = LlamaConfig(
    vocab_size=len(words), hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=1, max_position_embeddings=64, pad_token_id=0, eos_token_id=1,
)  # fmt: skip
arguments = GRPOConfig(
    "out", report_to=["wandb", "tensorboard"], run_name="grpo", log_completions=True, per_device_train_batch_size=2,
    num_generations=2, max_completion_length=4, max_steps=2, logging_steps=1, save_strategy="no", use_cpu=True,
    bf16=False, disable_tqdm=True,
)  # fmt: skip


def length(completions, **_):
    return [float(len(each)) for each in completions]


data = Dataset.from_dict({"prompt": ["a b c", "d e f", "g h i", "j k l"]})
model = LlamaForCausalLM(config)
GRPOTrainer(model, length, arguments, train_dataset=data, processing_class=tokenizer).train()
