"""The tree of settings: every key with its type, default, meaning and limits.

In: a mapping. Out: a frozen `Config`, or pydantic's errors, which `reading` turns into messages for people.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sppo_ray.preference import Estimator, LossName

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Labels = dict[str, str]  # of the nodes that a role may use, as Ray's label selectors write them


MOST_CHATS = 32  # a generator has a thread for each


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class PromptSource(Section):
    """Where prompts come from: `playground`, a .jsonl, .csv or .parquet file, a saved dataset's folder, or a hub name."""

    source: str
    split: str | None = None  # of a hub or saved dataset; "{iteration}" in it stands for 1, 2, 3
    column: str | None = None  # of text or chat messages; found by its usual names when not given
    limit: Positive | None = None  # the first n prompts after shuffling
    skip_bad_rows: bool = False  # leave out rows without a usable prompt instead of stopping


class Policy(Section):
    model: str  # a Hugging Face folder or hub name, or `playground`
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    attention: Literal["eager", "sdpa", "flash_attention_2"] = "sdpa"  # in the trainer; soft-capping needs eager
    max_length: Positive = 1024  # prompt and response, tokens
    max_prompt_length: Positive = 512  # the end of a longer prompt is kept
    trust_remote_code: bool = False


class Generation(Section):
    candidates: int = 5
    temperature: PositiveFloat = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_new_tokens: Positive = 2048
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    tensor_parallel: Positive = 1


class Judge(Section):
    model: str  # a PairRM folder or hub name, or `playground`
    estimator: Estimator = "pairwise"
    temperature: PositiveFloat = 1.0
    source_max_length: Positive = 1224  # tokens of the prompt
    candidate_max_length: Positive = 412  # tokens of each response
    batch_tokens: Positive = 32768  # of one forward pass, padding included


class Training(Section):
    loss: LossName = "sppo"
    eta: PositiveFloat = 1000.0
    learning_rate: PositiveFloat = 5e-7
    warmup_ratio: Share = 0.1
    max_grad_norm: PositiveFloat = 1.0
    batch_size: Positive = 64  # pairs an optimizer step, over all workers
    micro_batch_size: Positive = 8  # pairs a forward pass at most, on one worker
    micro_batch_tokens: Positive = 8192  # a forward pass at most, on one worker, padding included
    epochs: Positive = 1
    gradient_checkpointing: bool = True
    reference: Literal["sampled", "recompute"] = "sampled"
    # Nats a token, mean over the first batch of an iteration: two bfloat16 engines differ by about 0.01, other weights by 0.1.
    reference_tolerance: PositiveFloat = 3e-2
    checkpoint_steps: Positive = 50  # optimizer steps between checkpoints, which a restarted trainer goes on from
    # Restarts of a trainer, for each iteration that it has before it, until the run fails.
    max_failures: Annotated[int, Field(ge=0)] = 3
    workers: Positive = 8
    cpus: PositiveFloat = 1.0  # a worker
    gpus: float = 1.0  # a worker
    labels: Labels = {}


class Pool(Section):
    """A pool of engine actors: starts at `min`, grows to `max` as the cluster has room."""

    min: Positive = 1
    max: Positive = 1
    cpus: float = 1.0  # an actor
    gpus: float = 1.0  # an actor; a generator takes generation.tensor_parallel times as many
    labels: Labels = {}
    blocks: Positive = 2  # in flight on one actor, so that its engine never runs dry
    shrink_idle: bool = False  # back to `min` while there is nothing for the pool to do
    hang_seconds: PositiveFloat = 1800.0  # an actor that takes longer to start or for a block is killed and replaced
    tries: Positive = 3  # of a block, and then of each of its prompts, before a prompt is set aside


class Evaluation(Section):
    prompts: PromptSource | None = None  # held-out prompts of their own
    held_out: int = 0  # without `prompts`: this many are set apart from the training prompts
    responses: Positive = 1  # a prompt


class Storage(Section):
    """What of a run is kept; the policy in use always is."""

    keep_snapshots: Positive | None = None  # the last n published policies; all when not given
    keep_checkpoints: Positive = 1  # of the iteration that trains


class Gateway(Section):
    """The service of a run: HTTP API, page and chat. Its token is printed once, when the run starts."""

    host: str = "127.0.0.1"  # 0.0.0.0 for other machines, which then reach it without encryption
    port: Annotated[int, Field(ge=0, le=65535)] = 0  # 0 is any that is free
    # Answers to people that are sampled at once; who asks for more waits.
    chats: Annotated[int, Field(gt=0, le=MOST_CHATS)] = 16


Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio"]


class Config(Section):
    recipe: str
    seed: int = 42
    iterations: Positive = 3
    block: Positive = 32  # prompts that are sampled, judged and stored together
    prompts: PromptSource
    policy: Policy
    generation: Generation
    judge: Judge
    training: Training
    evaluation: Evaluation = Evaluation()
    # disaggregated: engines and trainer side by side, each on its own devices. colocated: the same devices in turn.
    placement: Literal["disaggregated", "colocated"] = "disaggregated"
    max_set_aside: Share = 0.01  # of an iteration's prompts that engines fail on; more end the run
    generators: Pool = Pool()
    rankers: Pool = Pool()
    storage: Storage = Storage()
    gateway: Gateway = Gateway()
    trackers: list[Tracker] = ["tensorboard"]

    @property
    def generator_gpus(self) -> float:
        """GPUs of one generator."""
        return self.generators.gpus * self.generation.tensor_parallel

    @property
    def prompts_in_flight(self) -> int:
        """Prompts that one generator is given at once."""
        return self.generators.blocks * self.block

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        if self.generation.candidates < 2:
            raise ValueError(
                f"generation.candidates is {self.generation.candidates}: a pair needs at least 2; the paper uses 5"
            )
        if self.policy.max_prompt_length >= self.policy.max_length:
            raise ValueError(
                f"policy.max_prompt_length is {self.policy.max_prompt_length}, which leaves no room for a response "
                f"in policy.max_length = {self.policy.max_length}: lower the first or raise the second"
            )
        if self.training.batch_size % self.training.workers:
            raise ValueError(
                f"training.batch_size is {self.training.batch_size} pairs, which {self.training.workers} workers "
                "cannot share evenly: make it a multiple of training.workers"
            )
        for name in ("generators", "rankers"):
            pool: Pool = getattr(self, name)
            if pool.max < pool.min:
                raise ValueError(f"{name}.max is {pool.max}, below {name}.min = {pool.min}: raise it")
        return self

    @model_validator(mode="after")
    def _sharing_gpus(self) -> "Config":
        if self.placement != "colocated" or not self.generators.gpus:
            return self
        if self.generation.tensor_parallel > 1:
            raise ValueError(
                f"generation.tensor_parallel is {self.generation.tensor_parallel} with placement=colocated: a generator of "
                "several GPUs takes whole ones and cannot share them: set generation.tensor_parallel=1 or "
                "placement=disaggregated"
            )
        engines, workers = self.generators.max + self.rankers.max, self.training.workers
        # On GPUs without an engine nothing keeps two workers apart, and NCCL refuses two on one.
        if 0 < self.training.gpus < 1 and engines < workers:
            raise ValueError(
                f"generators.max + rankers.max is {engines} with placement=colocated, below training.workers = {workers}: "
                "each worker shares a GPU with an engine: raise the first or lower the second"
            )
        return self
