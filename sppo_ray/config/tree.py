"""The tree of settings: every key with its type, default, limits and meaning.

In: a mapping. Out: a frozen `Config`, or pydantic's errors, which `reading` turns into messages for people.
A key's docstring is its meaning in the configuration reference; units are part of it.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sppo_ray.config.judge import JudgeSettings
from sppo_ray.config.training import TrainingSettings
from sppo_ray.config.values import (
    FREE,
    Labels,
    NotNegative,
    NotNegativeFloat,
    Pattern,
    Positive,
    PositiveFloat,
    PositiveShare,
    Section,
    Seed,
    Share,
)

MOST_CHATS = 32  # a generator has one thread for each


class PromptSource(Section):
    """Where prompts come from."""

    source: Annotated[str, FREE]
    """`playground`, `instructions` (checkable ones), a file (JSON lines, JSON, CSV, TSV, Parquet, Arrow; also .gz), a folder of a data set, or its name on the hub."""
    split: str | None = None
    """Split of a data set, or file of a folder without its extension; `{iteration}` in it stands for 1, 2, 3."""
    subset: str | None = None
    """Configuration of a data set that has several."""
    column: str | None = None
    """Column of text or chat messages; found by its usual names if not set."""
    limit: Positive | None = None
    """Use only the first n prompts after shuffling."""
    skip_bad_rows: bool = False
    """Skip rows without a usable prompt instead of refusing the source."""


class PolicySettings(Section):
    """The language model that is trained."""

    model: str
    """Hugging Face model folder or hub name, or `playground`."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of the weights in generators and in forward and backward passes; the optimizer keeps float32."""
    publish_dtype: Annotated[Literal["bfloat16", "float32"] | None, FREE] = None
    """Precision of the files of the last iteration's policy, `float32` to lose nothing; `policy.dtype` if not set."""
    attention: Literal["eager", "sdpa", "flex_attention", "flash_attention_2"] = "sdpa"
    """Attention implementation in the trainer; logit soft-capping (Gemma 2) needs `flex_attention`, or `eager`, which stores all scores and takes its place on a CPU."""
    max_length: Positive = 1024
    """Prompt and response together, in tokens, as trained."""
    max_prompt_length: Positive = 512
    """Tokens of a prompt; a longer prompt keeps its end."""
    chat_template_kwargs: dict[str, Any] = {}
    """Variables of the chat template, such as `{enable_thinking: false}`; `chat_template` chooses one of several by name."""
    thoughts: Pattern | None = None
    """Regular expression of the thought in a response, which judges are not shown; from the tokenizer if not set."""
    trust_remote_code: Annotated[bool, FREE] = False
    """Run Python code that comes with the model."""


class GenerationSettings(Section):
    """How responses are sampled."""

    candidates: int = 5
    """Responses per prompt (K in the paper)."""
    temperature: PositiveFloat = 1.0
    """Sampling temperature."""
    top_p: PositiveShare = 1.0
    """Nucleus sampling: probability mass of the tokens that are sampled from."""
    max_new_tokens: Positive = 2048
    """Longest response, in tokens."""
    gpu_memory_utilization: Annotated[PositiveShare, FREE] = 0.9
    """Share of a GPU's memory that a vLLM engine may use."""
    max_sequences: Annotated[Positive | None, FREE] = None
    """Most responses that an engine samples at once; if not set, vLLM's choice by the GPU (256 on an A100). The plan sets it to what is in flight and fits in the cache."""
    tensor_parallel: Annotated[Positive, FREE] = 1
    """GPUs per generator, over which vLLM splits the weights."""


class PoolSettings(Section):
    """A pool of engine actors: it starts at `min` and grows to `max` as the cluster has room."""

    min: Positive = 1
    """Actors to start with."""
    max: Positive = 1
    """Most actors."""
    cpus: NotNegativeFloat = 1.0
    """CPUs per actor."""
    gpus: NotNegativeFloat = 1.0
    """GPUs per actor; a generator takes generation.tensor_parallel times as many."""
    labels: Labels = {}
    """Labels of the nodes that actors may run on, as Ray's label selectors write them."""
    blocks: Positive = 2
    """Blocks in flight per actor, so that its engine never runs dry."""
    shrink_idle: bool = False
    """Shrink to `min` while the pool has nothing to do."""
    hang_seconds: PositiveFloat = 1800.0
    """Seconds for a start or a block after which an actor is killed and replaced."""
    tries: Positive = 3
    """Attempts per block, then per prompt of it, before a prompt is set aside."""


class EvaluationSettings(Section):
    """Held-out prompts, answered after each iteration and never trained on."""

    prompts: PromptSource | None = None
    """A source of held-out prompts of its own."""
    held_out: NotNegative = 0
    """Without `prompts`: set apart this many of the training prompts."""
    responses: Positive = 1
    """Responses per held-out prompt."""
    judge: JudgeSettings | None = None
    """Another judge for held-out responses, so that the one that trains does not mark its own work; null for `judge`."""


class StorageSettings(Section):
    """What is kept of a run; the policy in use always is."""

    keep_snapshots: Positive | None = None
    """Published policies to keep, the newest first; all if not set."""
    keep_checkpoints: Positive = 1
    """Checkpoints to keep of the iteration in training."""


class GatewaySettings(Section):
    """The HTTP service of a run: API, page and chat."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for other machines, which then reach it without encryption."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port; 0 picks a free one."""
    chats: Annotated[int, Field(gt=0, le=MOST_CHATS)] = 16
    """Chat requests that are answered at once; more wait."""


Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio"]


class Config(Section):
    """A run."""

    recipe: str
    """Name of the recipe, for reports and model cards."""
    seed: Seed = 42
    """Seed of shuffling, sampling and bootstrap intervals."""
    iterations: Positive = 3
    """Iterations; after each the new policy becomes sampler and reference."""
    block: Positive = 32
    """Prompts that are sampled, judged and stored together."""
    prompts: PromptSource
    policy: PolicySettings
    generation: GenerationSettings
    judge: JudgeSettings
    training: TrainingSettings
    evaluation: EvaluationSettings = EvaluationSettings()
    placement: Annotated[Literal["auto", "disaggregated", "colocated"], FREE] = "auto"
    """`disaggregated`: engines and trainer side by side, each on its own devices; `colocated`: in turn on the same ones; `auto`: the plan's best for the cluster, which also sets training.workers, generators.max, rankers.max and gpus where they are not set."""
    max_set_aside: Annotated[Share, FREE] = 0.01
    """Share of an iteration's prompts, of the held-out prompts and of the comparisons of their responses that may be set aside, as they fail on every engine, before the run ends."""
    generators: Annotated[PoolSettings, FREE] = PoolSettings()
    """The pool of vLLM engines."""
    rankers: Annotated[PoolSettings, FREE] = PoolSettings()
    """The pool of judges."""
    storage: Annotated[StorageSettings, FREE] = StorageSettings()
    gateway: Annotated[GatewaySettings, FREE] = GatewaySettings()
    trackers: Annotated[list[Tracker], FREE] = ["tensorboard"]
    """Experiment trackers that also receive the numbers of the run."""

    @property
    def judges(self) -> list[JudgeSettings]:
        """The judge that trains and, where it is another, the one that marks held-out responses."""
        return [self.judge, *([self.evaluation.judge] if self.evaluation.judge else [])]

    @property
    def trained_attention(self) -> str:
        """The attention of the trainer: the kernel of flex_attention has a backward pass on GPUs only."""
        attention = self.policy.attention
        return "eager" if attention == "flex_attention" and not self.training.gpus else attention

    @property
    def generator_gpus(self) -> float:
        """GPUs of one generator."""
        return self.generators.gpus * self.generation.tensor_parallel

    @property
    def prompts_in_flight(self) -> int:
        """Prompts that one generator is given at once."""
        return self.generators.blocks * self.block

    @property
    def takes_turns(self) -> bool:
        """Whether generator and ranker share a GPU, so that each sleeps while the other works."""
        engines = self.generator_gpus, self.rankers.gpus
        return self.placement == "colocated" and all(engines) and sum(engines) <= 1

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
            pool: PoolSettings = getattr(self, name)
            if pool.max < pool.min:
                raise ValueError(f"{name}.max is {pool.max}, below {name}.min = {pool.min}: raise it")
        for judge in self.judges:
            if 1 < judge.tensor_parallel != self.rankers.gpus:
                raise ValueError(
                    f"judge.tensor_parallel is {judge.tensor_parallel} and rankers.gpus {self.rankers.gpus:g}: "
                    f"set rankers.gpus={judge.tensor_parallel}"
                )
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
