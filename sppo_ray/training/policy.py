"""The policy in training: ZeRO-3 engine, optimizer, schedule, one optimizer step at a time.

In: this worker's share of a batch of `Pair`s. Out: the step's numbers, and at the end the weights, tensor by tensor.
Runs on every worker of an initialised process group. The one module that touches DeepSpeed.
"""

import gc
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_local_fp32_param,
    safe_set_local_fp32_param,
    set_z3_leaf_module,
)
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.integrations import HfDeepSpeedConfig

from sppo_ray.config import Config
from sppo_ray.errors import RunFailed
from sppo_ray.loss import find_loss, sppo_loss
from sppo_ray.records import Pair, ReferenceGap, StepNumbers
from sppo_ray.run_folder.adapters import base_of
from sppo_ray.run_folder.masters import reading, write_part
from sppo_ray.training.adapter import adapter_name, add_adapter
from sppo_ray.training.batching import FILLER, Batch, Row, collate, micro_batches, rows
from sppo_ray.training.compiled import compile_layers
from sppo_ray.training.logprobs import Scorer
from sppo_ray.training.optimizer import find_optimizer
from sppo_ray.training.reference_guard import check, measure
from sppo_ray.training.schedule import scheduler
from sppo_ray.training.zero_settings import set_local_rank, size_bucket, zero_settings

# DeepSpeed calls collectives by names that torch has renamed: a user can do nothing about it.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")

CHECKPOINT_TAG = "zero"


class TrainablePolicy:
    """A policy under ZeRO-3 with everything that a step changes: weights, optimizer, schedule."""

    def __init__(
        self, config: Config, model: str, steps: int, device: torch.device, earlier_k3: Sequence[float] = ()
    ) -> None:
        """steps: of the iteration.  earlier_k3: the reference gaps of the run's earlier iterations, as KL per token."""
        self._config = config
        self._device = device
        self._loss = find_loss(config.training.loss)
        set_local_rank(device)
        # Gloo does the same work; compiling this operator would take a minute of the first run on a machine.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        settings = zero_settings(config, device)
        self._zero = HfDeepSpeedConfig(settings)  # while it exists, from_pretrained shards the model
        network = AutoModelForCausalLM.from_pretrained(
            base_of(model),
            dtype=getattr(torch, config.policy.dtype),
            attn_implementation=config.trained_attention,
            trust_remote_code=config.policy.trust_remote_code,
        )
        network.config.use_cache = False
        if config.training.gradient_checkpointing:
            network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        adapted = config.training.adapter.rank > 0
        # PEFT's settings of the adapter, for its folder; None where all weights are trained.
        self.adapter = (
            add_adapter(network, config, model) | {"base_model_name_or_path": base_of(model)} if adapted else None
        )
        if config.training.compile:
            for layer in compile_layers(network):
                set_z3_leaf_module(layer, True)  # gathered as a whole: its compiled part has no hooks in it
        network.train()  # checkpointing needs it; the named models have no dropout
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        size_bucket(settings, trained)
        optimizer = find_optimizer(config.training.optimizer).build(trained, config.training)
        # DeepSpeed imports its Muon optimizer to check that ours is another one, and with it torch's compiler.
        os.environ["TORCHDYNAMO_DISABLE"] = "1"
        self._engine, *_ = deepspeed.initialize(
            model=Scorer(network),
            optimizer=optimizer,
            lr_scheduler=scheduler(config.training, optimizer, steps),
            config=settings,
        )
        del os.environ["TORCHDYNAMO_DISABLE"]
        self._network = network
        self._earlier_k3 = earlier_k3
        self._reference_checked = False
        self.steps, self.steps_done = steps, 0

    def begin(self, steps: int, earlier_k3: Sequence[float]) -> None:
        """Go on to the next iteration from the float32 weights as they are, with a new optimizer and schedule."""
        zero, training = self._engine.optimizer, self._config.training
        zero.optimizer.state.clear()
        zero.optimizer = find_optimizer(training.optimizer).build(zero.fp32_partitioned_groups_flat, training)
        for group in zero.optimizer.param_groups:
            group["params"] = []  # DeepSpeed fills them in for each step
        self._engine.lr_scheduler = scheduler(training, zero.optimizer, steps)
        self._earlier_k3, self._reference_checked = earlier_k3, False
        self.steps, self.steps_done = steps, 0

    def step(self, pairs: list[Pair]) -> StepNumbers:
        """One optimizer step on a batch of which `pairs` is this worker's share; every worker calls it.

        The loss is the mean over the batch's real pairs, whatever their split over workers and micro-batches.
        Raises `ReferenceMismatch` before the first step if the sampler's log-probabilities are not this policy's.
        """
        groups = self._micro_batches(pairs)
        about = _from_workers([sum(pair.weight for pair in pairs), len(groups)], self._device)
        passes, real = int(about[:, 1].max()), about[:, 0].sum().item()
        weight = max(real, 1.0)  # a batch of set-aside prompts only weighs nothing
        learning_rate = self._engine.get_lr()[0]
        sums = torch.zeros(4, dtype=torch.float64, device=self._device)
        gaps: list[float] = []
        for group in groups + [[FILLER] * self._together] * (passes - len(groups)):
            batch = collate(group, self._device)
            logprobs = self._engine(batch.token_ids, batch.attention_mask, batch.scored)
            loss, numbers = self._loss_of(batch, logprobs)
            # ZeRO averages gradients over workers; the batch's mean is over all of its pairs.
            self._engine.backward(loss * (dist.get_world_size() / weight))
            sums += numbers
            if not self._reference_checked:
                trained = batch.scored & (batch.weight > 0)[:, None]
                own = self._scored(batch) if self._config.training.adapter.dropout else logprobs
                gaps += (own - batch.reference)[trained].tolist()
        total = _from_workers(sums.tolist(), self._device).sum(0).tolist()
        reference = None if self._reference_checked else self._check_reference(gaps)
        self._engine.step()
        self.steps_done += 1
        return StepNumbers(
            step=self.steps_done,
            loss=total[0] / weight,
            pairs=round(real),
            tokens=round(total[3]),
            chosen_log_ratio=total[1] / weight,
            rejected_log_ratio=total[2] / weight,
            gradient_norm=float(self._engine.get_global_grad_norm()),
            learning_rate=learning_rate,
            # Where a gradient is not finite, DeepSpeed leaves weights, optimizer and schedule as they are, without a word.
            skipped=not self._engine.was_step_applied(),
            reference=reference,
        )

    def _check_reference(self, gaps: list[float]) -> ReferenceGap | None:
        """The gap over the batch of which `gaps` is this worker's share; None if the batch has no pair."""
        counts = _from_workers([len(gaps)], self._device)[:, 0].int().tolist()
        if not sum(counts):
            return None
        padded = _from_workers(gaps + [0.0] * (max(counts) - len(gaps)), self._device)
        gap = measure(torch.cat([row[:count] for row, count in zip(padded, counts, strict=True)]).cpu().numpy())
        check(gap, self._config.training.reference_tolerance, self._earlier_k3)
        self._reference_checked = True
        return gap

    def _micro_batches(self, pairs: list[Pair]) -> list[list[Row]]:
        training = self._config.training
        return micro_batches(rows(pairs), training.micro_batch_tokens, 2 * training.micro_batch_size, self._together)

    @property
    def _together(self) -> int:
        """Rows that share a forward pass: a pairwise loss needs both of a pair."""
        return 1 if self._loss.pairwise is None else 2

    def _loss_of(self, batch: Batch, logprobs: Tensor) -> tuple[Tensor, Tensor]:
        """Summed loss of a micro-batch, and its sums of: loss, log-ratios of chosen and rejected, tokens."""
        log_ratio = (logprobs - batch.reference).sum(-1)  # to the current policy; the loss takes that to all anchors
        losses = self._losses(log_ratio - batch.anchor_gap, batch)
        with torch.no_grad():
            chosen, rejected = (((batch.sign == sign) * batch.weight * log_ratio).sum() for sign in (1, -1))
            tokens = (batch.attention_mask.sum(-1) * batch.weight).sum()
            numbers = torch.stack([losses.sum(), chosen, rejected, tokens]).double()
        return losses.sum(), numbers

    def _losses(self, log_ratio: Tensor, batch: Batch) -> Tensor:
        """Weighted losses: per response for pointwise losses, per pair for pairwise ones, whose rows alternate."""
        eta = self._config.training.eta
        if self._loss.pairwise is None:
            return batch.weight * sppo_loss(log_ratio, batch.win_rate, eta=eta)
        win_rates = batch.win_rate[0::2], batch.win_rate[1::2]
        return batch.weight[0::2] * self._loss.pairwise(log_ratio[0::2], log_ratio[1::2], eta, win_rates)

    @torch.no_grad()
    def _scored(self, batch: Batch) -> Tensor:
        """The log-probabilities without an adapter's dropout."""
        self._engine.eval()
        scored: Tensor = self._engine(batch.token_ids, batch.attention_mask, batch.scored)
        self._engine.train()
        return scored

    @torch.no_grad()
    def recompute(self, pairs: list[Pair]) -> list[Pair]:
        """The pairs with this policy's own log-probabilities as reference; every worker calls it, before the first step."""
        found = []
        for pair in pairs:
            batch = collate(rows([pair]), self._device)
            scored = self._scored(batch)
            chosen, rejected = (
                replace(response, reference_logprobs=row[mask].tolist())
                for response, row, mask in zip((pair.chosen, pair.rejected), scored, batch.scored, strict=True)
            )
            found.append(replace(pair, chosen=chosen, rejected=rejected))
        return found

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The full shape of each tensor that `gather` yields, in its order."""
        return {name: tuple(getattr(parameter, "ds_shape", parameter.shape)) for name, parameter in self._published()}

    def _published(self) -> Iterator[tuple[str, Any]]:
        """The parameters that a snapshot has, by their names in it: all of them, or the adapter's."""
        for name, parameter in self._network.named_parameters():
            if self.adapter is None:
                yield name, parameter
            elif parameter.requires_grad:
                yield adapter_name(name), parameter

    def gather(self) -> Iterator[tuple[str, Tensor]]:
        """The float32 weights, one whole tensor after another, on the CPU. One worker iterates to the end, the others `assist`."""
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)  # it is set per thread, and another thread may iterate
        for name, parameter in self._published():
            yield name, safe_get_full_fp32_param(parameter).to("cpu")

    def assist(self) -> None:
        """Take part in another worker's `gather`."""
        for _, parameter in self._published():
            safe_get_full_fp32_param(parameter)

    def save_master(self, folder: Path) -> None:
        """Write this worker's part of the float32 weights."""
        sizes = {name: parameter.ds_tensor.numel() for name, parameter in self._published()}
        parts = ((name, safe_get_local_fp32_param(parameter).cpu()) for name, parameter in self._published())
        write_part(folder, dist.get_rank(), dist.get_world_size(), sizes, parts)

    @torch.no_grad()
    def load_master(self, folder: Path) -> None:
        """Go on from float32 weights whose rounding this policy holds. Raises `RunFailed` if it is not theirs."""
        with reading(folder, dist.get_rank(), dist.get_world_size()) as read:
            for name, parameter in self._published():
                master = safe_get_local_fp32_param(parameter)
                start = dist.get_rank() * len(master)
                values = read(name, start, min(start + len(master), parameter.ds_numel))  # what follows is padding
                held = parameter.ds_tensor[: len(values)]
                if not values.to(held).equal(held):
                    raise RunFailed(f"{folder} is damaged: remove it, and the next iteration starts from the snapshot")
                master[: len(values)] = values
                safe_set_local_fp32_param(parameter, master)

    def save(self, folder: Path, log: list[dict[str, Any]]) -> None:
        """Write a ZeRO checkpoint, each worker its own part: weights, optimizer, schedule, and the log so far."""
        state = {"steps_done": self.steps_done, "log": log}
        self._engine.save_checkpoint(
            str(folder), tag=CHECKPOINT_TAG, client_state=state, exclude_frozen_parameters=True
        )

    def restore(self, folder: Path) -> list[dict[str, Any]]:
        """Continue from a checkpoint; returns its log."""
        _, state = self._engine.load_checkpoint(str(folder), tag=CHECKPOINT_TAG, load_module_strict=False)
        self.steps_done = state["steps_done"]
        log: list[dict[str, Any]] = state["log"]
        self._reference_checked = any(map(ReferenceGap.of, log))
        return log

    def close(self) -> None:
        """Free memory so another policy can be built in this process. Tensors loaded from a checkpoint stay with DeepSpeed."""
        optimizer: Any = self._engine.optimizer
        states = [value for state in optimizer.optimizer.state.values() for value in state.values()]
        parameters: list[Any] = list(self._network.parameters())
        # Small ones that are frozen stay whole, beside their shards.
        shards = [tensor for parameter in parameters for tensor in (parameter.ds_tensor, parameter.data)]
        groups = optimizer.fp32_partitioned_groups_flat
        gradients = [group.grad for group in groups]
        self._engine.destroy()
        # DeepSpeed's and autograd's objects refer to each other where Python's collector cannot see it: only their tensors go.
        for tensor in filter(torch.is_tensor, (*states, *groups, *gradients, *shards)):
            if tensor.untyped_storage().resizable():
                tensor.untyped_storage().resize_(0)  # views of it included
            else:
                tensor.data = tensor.new_empty(0)
        vars(optimizer).clear()
        del self._engine, self._network, self._zero
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _from_workers(values: list[float], device: torch.device) -> Tensor:
    """Every worker's values: (workers, values), float64."""
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    gathered = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, tensor)
    return torch.stack(gathered)
