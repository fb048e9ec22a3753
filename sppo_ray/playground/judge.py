"""The small judge: PairRM's architecture, trained on words, then on answers, then on pairs.

In: settings, training prompts, a folder and its final path. Out: a checkpoint in llm-blender's own format.
"""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoTokenizer

from sppo_ray.playground import lessons
from sppo_ray.playground.answers import SCORE_SCALE
from sppo_ray.playground.comparer import DROPOUT, Comparer, Layout
from sppo_ray.playground.settings import PlaygroundSettings
from sppo_ray.playground.tokenizer import save_judge_tokenizer

BATCH = 32


class JudgeTrainer:
    """The network, and two auxiliary heads that are discarded after training."""

    def __init__(self, settings: PlaygroundSettings, prompts: list[str], base: Path) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.prompts, self.rng = settings, prompts, random.Random(settings.seed)
        save_judge_tokenizer(lessons.corpus(prompts, self.rng), base)
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        self.layout = Layout(self.tokenizer)
        self.network = Comparer(self.tokenizer)
        size = self.network.pretrained_model.config.hidden_size
        self.word_head = nn.Sequential(nn.Linear(size, size), nn.GELU(), nn.LayerNorm(size))
        self.replaced_head = nn.Linear(size, 1)

    def train(self, name: str, steps: int, rate: float, loss_of_batch: Callable[[], Tensor]) -> None:
        parameters = [*self.network.parameters(), *self.word_head.parameters(), *self.replaced_head.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps + 1, pct_start=0.1)
        for step in range(1, steps + 1):
            loss = loss_of_batch()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if step % 200 == 0 or step == steps:
                print(f"judge {name} step {step}/{steps} loss {loss.item():.2f}", flush=True)

    def words_loss(self) -> Tensor:
        """Masked-language modelling of the words that make an answer right."""
        prompts = self.rng.choices(self.prompts, k=BATCH)
        answers = [lessons.right_answer(prompt, self.rng) for prompt in prompts]
        ids, mask, content, _ = self.one_answer(prompts, answers)
        states = self.network.encode(ids.masked_fill(content, self.tokenizer.mask_token_id), mask)
        logits = self.word_head(states[content]) @ self.network.pretrained_model.embeddings.word_embeddings.weight.T
        return F.cross_entropy(logits, ids[content])

    def replaced_loss(self) -> Tensor:
        """Which content words were replaced, and whether the answer is right."""
        rows = [lessons.replaced_answer(prompt, self.rng) for prompt in self.rng.choices(self.prompts, k=BATCH)]
        ids, mask, content, prefix_at = self.one_answer([row.prompt for row in rows], [row.answer for row in rows])
        states = self.network.encode(ids, mask)
        right = torch.tensor([float(row.right) for row in rows])
        loss = F.binary_cross_entropy_with_logits(self.network.score(states, *prefix_at), right)
        kept = [self.content_tokens(row.prompt, row.original) for row in rows]
        place, token = content.nonzero()[:, 0].tolist(), ids[content].tolist()
        changed = torch.tensor([float(one not in kept[row]) for row, one in zip(place, token, strict=True)])
        found = F.binary_cross_entropy_with_logits(self.replaced_head(states[content]).squeeze(-1), changed)
        return loss + found

    def one_answer(self, prompts: list[str], answers: list[str]) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Token ids, mask, the positions of content words, and the positions of prefixes."""
        pieces = self.layout.parts(answers, self.rng.choice((1, 2)))
        ids, mask, prefix_at = self.layout.join([self.layout.parts(prompts, 0), pieces])
        content = torch.zeros_like(ids, dtype=torch.bool)
        for row, (prompt, answer, piece) in enumerate(zip(prompts, answers, pieces, strict=True)):
            wanted, end = self.content_tokens(prompt, answer), int(mask[row].sum())
            content[row, end - len(piece) : end] = torch.tensor([token in wanted for token in piece])
        return ids, mask, content, prefix_at

    def content_tokens(self, prompt: str, answer: str) -> set[int]:
        words = lessons.content_words(prompt, answer)
        forms = [form for word in words for form in (word, f" {word}", word.capitalize(), f" {word.capitalize()}")]
        return {token for form in forms for token in self.tokenizer.encode(form, add_special_tokens=False)}

    def pairs_loss(self) -> Tensor:
        """Which of two answers the rule prefers, and by what margin."""
        rows = [lessons.pair(self.rng.choice(self.prompts), self.rng) for _ in range(BATCH)]
        columns = [[row.prompt for row in rows], [row.left for row in rows], [row.right for row in rows]]
        ids, mask, at = self.layout.join([self.layout.parts(texts, place) for place, texts in enumerate(columns)])
        states = self.network.encode(ids, mask)
        left, right = self.network.score(states, at[0], at[1]), self.network.score(states, at[0], at[2])
        wanted = SCORE_SCALE * (torch.tensor([[row.left_score, row.right_score] for row in rows]) - 0.5)
        better = (wanted[:, 0] - wanted[:, 1]).sign()
        ranked = (-F.logsigmoid(better * (left - right)) * better.abs()).mean()
        return ranked + 0.3 * F.mse_loss(torch.stack([left, right], 1), wanted)


def train_judge(settings: PlaygroundSettings, prompts: list[str], folder: Path, final: Path) -> None:
    torch.set_num_threads(1)
    base = folder / "base"
    trainer = JudgeTrainer(settings, prompts, base)
    trainer.train("words", settings.word_steps, 3e-3, trainer.words_loss)
    trainer.train("replaced", settings.replaced_steps, 2e-3, trainer.replaced_loss)
    trainer.train("pairs", settings.pair_steps, 2e-3, trainer.pairs_loss)
    trainer.network.pretrained_model.save_pretrained(base)
    save_file(
        {name: value.contiguous() for name, value in trainer.network.state_dict().items()}, folder / "model.safetensors"
    )
    write_config(folder, final)


def write_config(folder: Path, final: Path) -> None:
    """llm-blender resolves model_name against the working directory, so write the absolute final path."""
    config = {
        "ranker_type": "pairranker",
        "model_type": "deberta",
        "model_name": str(final.resolve() / "base"),
        "source_maxlength": 1224,
        "candidate_maxlength": 412,
        "n_tasks": 1,
        "drop_out": DROPOUT,
        "fp16": False,
    }
    temporary = folder / "config.json.tmp"
    temporary.write_text(json.dumps(config, indent=1), "utf-8")
    temporary.replace(folder / "config.json")


if __name__ == "__main__":
    _, text, prompts_file, folder_name, final_name = sys.argv
    train_judge(
        PlaygroundSettings.from_json(text),
        json.loads(Path(prompts_file).read_text("utf-8")),
        Path(folder_name),
        Path(final_name),
    )
