"""What crosses a process: small typed records and the Arrow schemas of their Parquet blocks.

Token ids and log-probabilities are those of sampling; text is for judges and people.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Any, TypedDict, TypeVar

import pyarrow as pa


class Message(TypedDict):
    role: str  # "user" or "assistant" (or "system", where the chat template has one)
    content: str


@dataclass(frozen=True)
class Prompt:
    """One prompt, encoded once through the policy's own chat template.

    text: what the judge and people see, without control tokens.  token_ids: what sampler and trainer see.
    """

    prompt_id: str
    text: str
    token_ids: list[int]


@dataclass(frozen=True)
class Candidates:
    """K responses to one prompt from one snapshot; every list has K entries.

    logprobs: raw log pi_t of each sampled token, in nats, before temperature and top-p.
    """

    prompt_id: str
    prompt: str
    prompt_token_ids: list[int]
    responses: list[str]
    token_ids: list[list[int]]
    logprobs: list[list[float]]
    finish_reasons: list[str]
    snapshot: str


@dataclass(frozen=True)
class Judged:
    """The judge's view of one prompt's K candidates.

    responses: as the judge was shown them, without thoughts.
    comparisons: (K, K) logits c[i][j] that response i, placed left, beats response j; zero diagonal.
    win_rates: K values in [0, 1], NaN for a response that is set aside.  chosen, rejected: indices into responses.
    truncated: share of the comparisons in which the judge saw a cut text.
    """

    prompt_id: str
    prompt: str
    responses: list[str]
    comparisons: list[list[float]]
    win_rates: list[float]
    chosen: int
    rejected: int
    snapshot: str
    truncated: float = 0.0


@dataclass(frozen=True)
class Anchored:
    """log pi_k of each token of a prompt's chosen and rejected responses under another anchor, the snapshot, in nats."""

    prompt_id: str
    chosen: list[float]
    rejected: list[float]
    snapshot: str


@dataclass(frozen=True)
class SetAside:
    """A prompt that every engine failed on, or whose responses cannot be compared. stage: "generate" or "judge"."""

    prompt_id: str
    stage: str
    why: str


@dataclass(frozen=True)
class Response:
    """One trained response: its tokens, the reference log-probability of each, and the win rate that its loss regresses it to.

    anchor_gap: sum over anchors k of lambda_k (log pi_k - log pi_t) of the response, in nats.
    """

    token_ids: list[int]
    reference_logprobs: list[float]
    win_rate: float
    anchor_gap: float = 0.0


@dataclass(frozen=True)
class Pair:
    """One row of training data. weight is 1, or 0 for a row that only fills up the last batch."""

    prompt_id: str
    prompt_token_ids: list[int]
    chosen: Response
    rejected: Response
    weight: float = 1.0


@dataclass(frozen=True)
class Snapshot:
    """A policy that can be loaded: iteration 0 is the base model. digest is of its manifest, empty for the base."""

    iteration: int
    uri: str
    digest: str = ""

    @property
    def name(self) -> str:
        return f"iter-{self.iteration}"


@dataclass(frozen=True)
class ChatRequest:
    """A person's question to the policy.

    token_ids: of the prompt.  n: number of answers.  max_tokens: of each answer.  stop: texts that end an answer.
    seed: None for answers that differ each time.  logprobs: how many of the most likely tokens to report at each
    position, beside the sampled one; None for no log-probabilities.
    """

    token_ids: list[int]
    n: int
    max_tokens: int
    temperature: float
    top_p: float
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: int | None = None


@dataclass(frozen=True)
class TokenDelta:
    """The next tokens of answer `index`.

    tokens: how many.  snapshot: the policy that sampled them.  logprobs: one entry per token, if the request asks for
    them.  finish_reason: why the answer ended, in its last delta.
    """

    index: int
    text: str
    tokens: int
    snapshot: str
    finish_reason: str | None = None
    logprobs: tuple["TokenLogprobs", ...] = ()


@dataclass(frozen=True)
class TokenLogprobs:
    """A sampled token and the most likely ones in its place; nats, before temperature and top-p."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Progress:
    """What an engine has done and does. tokens: sampled since it started, unfinished sequences included.  sequences: in flight."""

    tokens: int
    sequences: int


@dataclass(frozen=True)
class KeptShare:
    """What a snapshot, which is rounded, keeps (p) of an iteration's update (u) of the float32 weights; 1 is all of it."""

    projection: float  # <p, u> / <u, u>
    cosine: float  # <p, u> / (|p| |u|), 0 where p is 0


@dataclass(frozen=True)
class ReferenceGap:
    """d = log pi_t by the trainer minus log pi_t by the sampler, over response tokens, in nats.

    mean_abs, p95_abs: mean and 95th percentile of |d|.  mean: of d.  k3: mean of e^d - 1 - d, an estimate of
    KL(sampler || trainer) per token.
    """

    mean_abs: float
    p95_abs: float
    mean: float
    k3: float

    @staticmethod
    def of(row: Mapping[str, Any]) -> "ReferenceGap | None":
        """The gap that a row of the training log holds: the first step's does."""
        found: dict[str, Any] = {field.name: row.get(f"reference_{field.name}") for field in fields(ReferenceGap)}
        return None if None in found.values() else ReferenceGap(**found)


@dataclass(frozen=True)
class StepNumbers:
    """One optimizer step over all workers. Losses are means over pairs; log-ratios over responses, in nats.

    skipped: the loss or its gradient was not a number, so the weights stayed as they were.
    """

    step: int
    loss: float
    pairs: int
    tokens: int  # prompt and response, both responses of each pair
    chosen_log_ratio: float
    rejected_log_ratio: float
    gradient_norm: float  # before clipping
    learning_rate: float
    skipped: bool
    reference: ReferenceGap | None  # on the first step, where policy and reference are the same

    def row(self) -> dict[str, Any]:
        """Flat, as JSON can hold it: None in place of what is not a finite number, `reference_k3` and so on on the first step."""
        values = asdict(self)
        values |= {f"reference_{name}": value for name, value in (values.pop("reference") or {}).items()}
        return {
            key: None if isinstance(value, float) and not isfinite(value) else value for key, value in values.items()
        }


IDS = pa.list_(pa.int32())
LOGPROBS = pa.list_(pa.float32())
RESPONSE = pa.struct(
    [("token_ids", IDS), ("reference_logprobs", LOGPROBS), ("win_rate", pa.float32()), ("anchor_gap", pa.float32())]
)

SCHEMAS: dict[type, pa.Schema] = {
    Prompt: pa.schema([("prompt_id", pa.string()), ("text", pa.string()), ("token_ids", IDS)]),
    Candidates: pa.schema(
        [
            ("prompt_id", pa.string()),
            ("prompt", pa.string()),
            ("prompt_token_ids", IDS),
            ("responses", pa.list_(pa.string())),
            ("token_ids", pa.list_(IDS)),
            ("logprobs", pa.list_(LOGPROBS)),
            ("finish_reasons", pa.list_(pa.string())),
            ("snapshot", pa.string()),
        ]
    ),
    Judged: pa.schema(
        [
            ("prompt_id", pa.string()),
            ("prompt", pa.string()),
            ("responses", pa.list_(pa.string())),
            ("comparisons", pa.list_(LOGPROBS)),
            ("win_rates", LOGPROBS),
            ("chosen", pa.int32()),
            ("rejected", pa.int32()),
            ("snapshot", pa.string()),
            ("truncated", pa.float32()),
        ]
    ),
    Anchored: pa.schema(
        [("prompt_id", pa.string()), ("chosen", LOGPROBS), ("rejected", LOGPROBS), ("snapshot", pa.string())]
    ),
    Pair: pa.schema(
        [
            ("prompt_id", pa.string()),
            ("prompt_token_ids", IDS),
            ("chosen", RESPONSE),
            ("rejected", RESPONSE),
            ("weight", pa.float32()),
        ]
    ),
}

Record = TypeVar("Record", Prompt, Candidates, Judged, Anchored, Pair)


def to_table(records: list[Record], kind: type[Record]) -> pa.Table:
    """Records of one kind as an Arrow table, one row each."""
    return pa.Table.from_pylist([_row(record) for record in records], schema=SCHEMAS[kind])


def _row(record: object) -> dict[str, object]:
    # dataclasses.asdict copies every token: thirty times the work.
    return {name: vars(value) if isinstance(value, Response) else value for name, value in vars(record).items()}


def from_table(table: pa.Table, kind: type[Record]) -> list[Record]:
    """The records of an Arrow table; columns that the kind does not have are ignored."""
    names = [field.name for field in fields(kind)]
    rows = table.select(names).to_pylist()
    if kind is Pair:
        for row in rows:
            row["chosen"], row["rejected"] = Response(**row["chosen"]), Response(**row["rejected"])
    return [kind(**row) for row in rows]
