"""The run folder: which blocks are done, which iteration is next, and whether the configuration is still the same.

In: blocks of records, reports. Out: the same, verified by digest; a damaged file is set aside, so that it is computed again.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from sppo_ray import files
from sppo_ray.config import Config
from sppo_ray.errors import DamagedFile, RunFolderError
from sppo_ray.records import Candidates, Judged, Prompt, Record, SetAside, Snapshot, from_table, to_table
from sppo_ray.snapshots import read_snapshot

log = logging.getLogger(__name__)

HELD_OUT = "evaluation"  # the folder of an iteration's responses to the held-out prompts

# What may differ between two submissions of one run: it changes how fast the numbers come, not what they are.
FREE_KEYS = (
    "placement",
    "max_set_aside",
    "generators",
    "rankers",
    "training.cpus",
    "training.gpus",
    "training.micro_batch_size",
    "training.checkpoint_steps",
    "training.max_failures",
)


@dataclass(frozen=True)
class Ledger:
    """The folder of one run. Paths are those of docs: `iter-<t>/{candidates,judged}/<block>.parquet` and so on."""

    root: Path

    def iteration(self, iteration: int) -> Path:
        return self.root / f"iter-{iteration}"

    def block(self, kind: type, iteration: int, block: int, folder: str | None = None) -> Path:
        name = folder or kind.__name__.lower()
        return self.iteration(iteration) / name / f"{block:05d}.parquet"

    # Blocks

    def write(self, records: list[Record], kind: type[Record], path: Path) -> None:
        """Write a block and its digest (`<name>.sha256`, in the format of `sha256sum`); the block appears last."""
        buffer = pa.BufferOutputStream()
        pq.write_table(to_table(records, kind), buffer, compression="zstd")
        data = buffer.getvalue().to_pybytes()
        digest = files.digest_bytes(data)
        files.write_bytes(path.with_name(path.name + ".sha256"), f"{digest}  {path.name}\n".encode())
        files.write_bytes(path, data)

    def read(self, kind: type[Record], path: Path) -> list[Record]:
        """The records of a block. Raises `DamagedFile` where they are not what was written."""
        return from_table(pq.read_table(pa.BufferReader(self._verified(path))), kind)

    def has(self, path: Path) -> bool:
        """Whether a block is there and whole; a damaged one is renamed to `<name>.damaged` and reported."""
        if not path.exists():
            return False
        try:
            self._verified(path)
        except DamagedFile as error:
            log.warning("%s: set aside, computed again", error)
            path.rename(path.with_name(path.name + ".damaged"))
            return False
        return True

    @staticmethod
    def _verified(path: Path) -> bytes:
        data = path.read_bytes()
        digest_file = path.with_name(path.name + ".sha256")
        if not digest_file.exists() or digest_file.read_text().split()[0] != files.digest_bytes(data):
            raise DamagedFile(f"{path} does not match its digest")
        return data

    def candidates(self, iteration: int, block: int) -> list[Candidates]:
        return self.read(Candidates, self.block(Candidates, iteration, block))

    def judged(self, iteration: int, block: int) -> list[Judged]:
        return self.read(Judged, self.block(Judged, iteration, block))

    def rows(self, kind: type[Record], iteration: int, folder: str | None = None) -> Iterator[Record]:
        """Every record of an iteration's blocks, in the order of its prompts, with one block in memory at a time."""
        for path in sorted(self.block(kind, iteration, 0, folder).parent.glob("*.parquet")):
            yield from self.read(kind, path)

    def scored(self, iteration: int) -> Iterator[tuple[Candidates, Judged]]:
        """Candidates and judgement of every prompt of an iteration that has both, in the order of its prompts."""
        candidates = self.rows(Candidates, iteration)
        for judged in self.rows(Judged, iteration):
            yield next(row for row in candidates if row.prompt_id == judged.prompt_id), judged

    def held_out(self, iteration: int) -> list[Candidates]:
        """The responses of an iteration's snapshot (0: the base) to the held-out prompts, in their order."""
        return list(self.rows(Candidates, iteration, HELD_OUT))

    # Prompts that engines fail on: named in a file of their block, and in no block.

    def write_set_aside(self, path: Path, prompts: list[SetAside]) -> None:
        """Say which prompts of a block were left out. path: of the block, which is written after this."""
        files.write_json(self._set_aside(path.parent) / f"{path.stem}.json", [asdict(prompt) for prompt in prompts])

    def set_aside(self, iteration: int) -> list[SetAside]:
        """The training prompts of an iteration that were left out, in the order of its prompts."""
        return [
            SetAside(**row)
            for kind in (Candidates, Judged)
            for path in sorted(self._set_aside(self.block(kind, iteration, 0).parent).glob("*.json"))
            for row in json.loads(path.read_text())
        ]

    @staticmethod
    def _set_aside(folder: Path) -> Path:
        return folder.with_name(f"{folder.name}-set-aside")

    # Prompts of an iteration, in the order they are trained in; iteration 0 holds the held-out prompts.

    def write_prompts(self, iteration: int, prompts: list[Prompt]) -> None:
        self.write(prompts, Prompt, self.iteration(iteration) / "prompts.parquet")

    def has_prompts(self, iteration: int) -> bool:
        return self.has(self.iteration(iteration) / "prompts.parquet")

    def prompts(self, iteration: int) -> list[Prompt]:
        return self.read(Prompt, self.iteration(iteration) / "prompts.parquet")

    # The run

    def finished_iterations(self) -> int:
        """How many iterations have published, loaded and reported."""
        done = 0
        while self.report(done + 1) is not None:
            done += 1
        return done

    def snapshot(self, iteration: int) -> Snapshot | None:
        """The published policy of an iteration, if there is a whole one."""
        return read_snapshot(self.iteration(iteration) / "policy", iteration)

    def report(self, iteration: int) -> dict[str, Any] | None:
        path = self.iteration(iteration) / "report.json"
        return json.loads(path.read_text()) if path.exists() else None

    def reports(self) -> list[dict[str, Any]]:
        """The reports of the finished iterations, in order."""
        reports = map(self.report, range(1, self.finished_iterations() + 1))
        return [report for report in reports if report is not None]

    def write_report(self, iteration: int, report: dict[str, Any]) -> None:
        files.write_json(self.iteration(iteration) / "report.json", report)

    def training_log(self, iteration: int) -> Path:
        return self.iteration(iteration) / "training.jsonl"

    def training_rows(self, iteration: int) -> list[dict[str, Any]]:
        """The numbers of each step of an iteration, in order."""
        return [json.loads(line) for line in self.training_log(iteration).read_text().splitlines()]

    def config(self) -> Config:
        """The configuration as the run's user wrote it: `playground` is not resolved to a path."""
        return Config.model_validate(yaml.safe_load((self.root / "config.yaml").read_text())["config"])

    def claim(self, config: Config, about: dict[str, Any]) -> bool:
        """Write config.yaml into a new run folder, or check that it holds the same run. True if it is new.

        Raises `RunFolderError` naming each key that differs and may not.
        """
        path = self.root / "config.yaml"
        tree = config.model_dump(mode="json")
        if path.exists():
            changed = differences(yaml.safe_load(path.read_text())["config"], tree)
            if changed:
                raise RunFolderError(
                    f"{self.root} holds a run made with another configuration:\n"
                    + "\n".join(f"  {key}: {old!r} there, {new!r} now" for key, old, new in changed)
                    + "\nChoose another --run-dir, or ask for the same values."
                )
            return False
        files.write_bytes(path, yaml.safe_dump({"config": tree, **about}, sort_keys=False).encode())
        return True


def differences(old: Any, new: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    """The keys of two configuration trees whose values differ and matter: (dotted key, old, new)."""
    if key in FREE_KEYS or old == new:
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            difference
            for name in dict.fromkeys([*old, *new])
            for difference in differences(old.get(name), new.get(name), f"{key}.{name}".lstrip("."))
        ]
    return [(key, old, new)]
