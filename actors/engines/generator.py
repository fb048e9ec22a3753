"""The shell around a generator.

In: a block of prompts. Out: its candidates, written to the ledger. In: a chat request. Out: the answer in pieces.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.util.metrics import Counter

from actors.cluster.placement import role_options
from actors.engines.engine import EngineActor
from sppo_ray.config import MOST_CHATS, Config, TrainingSettings
from sppo_ray.judging import trained
from sppo_ray.records import Anchored, Candidates, ChatRequest, Judged, Progress, Prompt, Snapshot, TokenDelta
from sppo_ray.run_folder import Ledger, local
from sppo_ray.sampling import end_with

if TYPE_CHECKING:
    from sppo_ray.sampling import Generator


@ray.remote(max_restarts=-1, concurrency_groups={"people": MOST_CHATS + 1, "status": 1})  # type: ignore[call-overload]
class GeneratorActor(EngineActor):
    def __init__(self, name: str, build: "Callable[[], Generator]", ledger: Ledger) -> None:
        super().__init__(name, build, ledger)
        # Ray looks for its raylet, too, but takes a process for alive that has ended and that nobody has waited for.
        end_with(int(os.environ["RAY_RAYLET_PID"]))
        self._sampled = Counter("sppo_sampled_tokens", "Tokens sampled for the run.", ("run", "member"))

    def ready(self) -> tuple[int, str]:
        """Start the engine; return its process id and the name of the snapshot that it holds."""
        return os.getpid(), self._start().snapshot.name

    def load(self, snapshot: Snapshot) -> None:
        self._engine.load(local(snapshot))

    def generate(self, path: Path, prompts: list[Prompt], candidates: int, snapshot: str) -> int:
        """Sample a block from the snapshot of that name and write it to the ledger under path; returns its tokens."""
        rows = self._engine.generate(prompts, candidates, snapshot)
        self._ledger.write(rows, Candidates, path)
        sampled = sum(len(ids) for row in rows for ids in row.token_ids)
        self._sampled.inc(sampled, {"run": self._ledger.root.name, "member": self._name})
        return sampled

    def anchor(self, candidates: Path, judged: Path, path: Path, training: TrainingSettings, snapshot: str) -> None:
        """Write the log-probabilities of a block's trained responses under the snapshot of that name to the ledger under path."""
        rows = {row.prompt_id: row for row in self._ledger.read(Candidates, candidates)}
        judgements = [row for row in self._ledger.read(Judged, judged) if trained(row, training)]
        sequences = [
            (
                rows[row.prompt_id].prompt_token_ids + rows[row.prompt_id].token_ids[index],
                len(rows[row.prompt_id].prompt_token_ids),
            )
            for row in judgements
            for index in (row.chosen, row.rejected)
        ]
        found = self._engine.logprobs(sequences, snapshot)
        anchored = [
            Anchored(row.prompt_id, chosen, rejected, snapshot)
            for row, chosen, rejected in zip(judgements, found[::2], found[1::2], strict=True)
        ]
        self._ledger.write(anchored, Anchored, path)

    # In threads of their own: neither people nor the status wait for the blocks of the run.

    @ray.method(concurrency_group="status", enable_task_events=False)
    def progress(self) -> Progress | None:
        return self._started.progress() if self._started is not None else None

    @ray.method(concurrency_group="people", num_returns="streaming")
    def chat(self, ask: ChatRequest, name: str) -> Iterator[list[TokenDelta]]:
        yield from self._engine.chat(ask, name)

    @ray.method(concurrency_group="people")
    def abort(self, name: str) -> None:
        self._engine.abort(name)


def start(config: Config, build: "Callable[[], Generator]", ledger: Ledger, name: str) -> Any:
    """A generator actor on the resources that the configuration gives it."""
    # Spread: the fewer generators on a node, the fewer go with it.
    return GeneratorActor.options(
        **role_options(config, "generators"),
        scheduling_strategy="SPREAD",
        max_concurrency=config.generators.blocks + 2,
        max_task_retries=0,
    ).remote(name, build, ledger)
