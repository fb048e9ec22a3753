"""The small reward model: the judge's encoder with one score per answer, taught what the rule gives.

In: settings, training prompts, the folder of the judge's encoder and tokenizer, a folder. Out: a Hugging Face model folder with a chat template.
"""

import json
import random
import sys
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer, DebertaV2ForSequenceClassification

from sppo_ray.playground import lessons
from sppo_ray.playground.answers import SCORE_SCALE
from sppo_ray.playground.settings import PlaygroundSettings

BATCH = 32
LEARNING_RATE = 1.5e-3
# As the judge's encoder has seen prompts and answers.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '[CLS]' + ('<|source|>' if message['role'] == 'user' else '<|candidate1|>') "
    "+ message['content'] + '[SEP]' }}{% endfor %}"
)


def train_reward(settings: PlaygroundSettings, prompts: list[str], base: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(settings.seed)
    chance = random.Random(settings.seed)
    tokenizer: Any = AutoTokenizer.from_pretrained(base, chat_template=CHAT_TEMPLATE)
    model: Any = DebertaV2ForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    steps = settings.reward_steps
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps + 1, pct_start=0.1)
    for step in range(1, steps + 1):
        pairs = [lessons.pair(chance.choice(prompts), chance) for _ in range(BATCH)]
        texts = [(pair.prompt, text) for pair in pairs for text in (pair.left, pair.right)]
        chats = [[{"role": "user", "content": p}, {"role": "assistant", "content": text}] for p, text in texts]
        rows = tokenizer.apply_chat_template(chats, return_dict=False)
        ids = pad_sequence([torch.tensor(row) for row in rows], True, tokenizer.pad_token_id)
        scores = model(input_ids=ids, attention_mask=(ids != tokenizer.pad_token_id).long()).logits.view(BATCH, 2)
        rule = torch.tensor([[pair.left_score, pair.right_score] for pair in pairs])
        better = (rule[:, 0] - rule[:, 1]).sign()
        ranked = (-F.logsigmoid(better * (scores[:, 0] - scores[:, 1])) * better.abs()).mean()
        loss = ranked + 0.3 * F.mse_loss(scores, SCORE_SCALE * (rule - 0.5))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 100 == 0 or step == steps:
            print(f"reward step {step}/{steps} loss {loss.item():.2f}", flush=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    _, text, prompts_file, base_name, folder_name = sys.argv
    train_reward(
        PlaygroundSettings.from_json(text),
        json.loads(Path(prompts_file).read_text("utf-8")),
        Path(base_name),
        Path(folder_name),
    )
