"""The run folder: which blocks are done, which iteration is next, and whether the configuration is still the same.

In: blocks of records, reports. Out: the same, verified by digest; a damaged file is set aside, so that it is computed again.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from sppo_ray.config import Config, changes, validated
from sppo_ray.errors import ConfigError, DamagedFile, RunFolderError
from sppo_ray.records import Anchored, Candidates, Judged, KeptShare, Prompt, Record, SetAside, Snapshot
from sppo_ray.run_folder import blocks, files
from sppo_ray.run_folder.blocks import Records
from sppo_ray.run_folder.lock import hold
from sppo_ray.run_folder.snapshots import MANIFEST, read_manifest, read_snapshot, verify, withdraw
from sppo_ray.run_folder.storage import remote

log = logging.getLogger(__name__)

CANDIDATES, JUDGED, ANCHORED = "candidates", "judged", "anchored"  # of the training prompts
HELD_OUT = "evaluation"  # the folder of an iteration's responses to the held-out prompts


@dataclass(frozen=True)
class Ledger:
    """The folder of one run. Paths are those of docs: `iter-<t>/{candidates,judged}/<block>.parquet` and so on.

    root: a path, or a `UPath` in its place (`storage.location`); a ledger travels to other processes.
    """

    root: Path

    def iteration(self, iteration: int) -> Path:
        return self.root / f"iter-{iteration}"

    def block(self, kind: type, iteration: int, block: int, folder: str | None = None) -> Path:
        name = folder or kind.__name__.lower()
        return self.iteration(iteration) / name / f"{block:05d}.parquet"

    # Blocks

    def write(self, records: list[Record], kind: type[Record], path: Path) -> None:
        """Write a block. A whole one that is there stays: what came after it was computed from it."""
        if self.has(path):
            return
        later = {CANDIDATES: [JUDGED, f"{ANCHORED}-*"], JUDGED: [f"{ANCHORED}-*"]}.get(path.parent.name, [])
        for stale in [block for name in later for block in path.parent.parent.glob(f"{name}/{path.name}")]:
            log.warning("%s was computed from a block that is lost: set aside, computed again", stale)
            files.set_aside(stale)
        files.write_bytes(path, blocks.to_bytes(records, kind))

    def read(self, kind: type[Record], path: Path) -> list[Record]:
        """The records of a block. Raises `DamagedFile` where they are not what was written."""
        return list(blocks.from_bytes(_verified(path), kind))

    def has(self, path: Path) -> bool:
        """Whether a block is there and whole; a damaged one is renamed to `<name>.damaged` and reported."""
        try:
            _verified(path)
        except FileNotFoundError:
            return False
        except DamagedFile as error:
            log.warning("%s: set aside, computed again", error)
            files.set_aside(path)
            return False
        return True

    def anchored(self, iteration: int, block: int, anchor: int) -> Path:
        """Where a block of `Anchored` is: of the trained responses under the snapshot of that number."""
        return self.block(Anchored, iteration, block, f"{ANCHORED}-iter-{anchor}")

    def candidates(self, iteration: int, block: int) -> list[Candidates]:
        return self.read(Candidates, self.block(Candidates, iteration, block))

    def judged(self, iteration: int, block: int) -> list[Judged]:
        return self.read(Judged, self.block(Judged, iteration, block))

    def rows(self, kind: type[Record], iteration: int, folder: str | None = None) -> Iterator[Record]:
        """Every record of an iteration's blocks, in the order of its prompts, with one block in memory at a time."""
        for path in self.blocks(kind, iteration, folder):
            yield from self.read(kind, path)

    def blocks(self, kind: type, iteration: int, folder: str | None = None) -> list[Path]:
        """The blocks of an iteration that are there, in the order of its prompts."""
        return sorted(self.block(kind, iteration, 0, folder).parent.glob("*.parquet"))

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
            for row in json.loads(files.read_bytes(path))
        ]

    @staticmethod
    def _set_aside(folder: Path) -> Path:
        return folder.with_name(f"{folder.name}-set-aside")

    # Prompts of an iteration, in the order they are trained in; iteration 0 holds the held-out prompts.

    def write_prompts(self, iteration: int, prompts: list[Prompt]) -> None:
        self.write(prompts, Prompt, self.iteration(iteration) / "prompts.parquet")

    def has_prompts(self, iteration: int) -> bool:
        return self.has(self.iteration(iteration) / "prompts.parquet")

    def prompts(self, iteration: int) -> Records[Prompt]:
        return blocks.from_bytes(_verified(self.iteration(iteration) / "prompts.parquet"), Prompt)

    def prompt_report(self) -> Path:
        """Where it says what was dropped, left out or cut when the prompts were read."""
        return self.root / "prompts.json"

    # The run

    @property
    def checkpoints(self) -> Path:
        """Ray Train's folder, while an iteration is trained."""
        return self.root / "checkpoints"

    def hold(self) -> AbstractContextManager[None]:
        """Keep the run folder for this process alone, and free of what dead writers left, until the context ends.

        Raises `RunFolderError` naming the holder where another process has it.
        """
        return hold(self.root, self.sweep)

    def sweep(self) -> None:
        """Remove what dead writers left half-written. For the holder of the run, when none of its writers is at work."""
        if not remote(self.root):  # where nothing has a temporary name
            for path in list(self.root.rglob("*.tmp-*")):
                files.remove(path)

    def finished_iterations(self) -> int:
        """How many iterations have published, loaded and reported."""
        done = 0
        while self.report(done + 1) is not None:
            done += 1
        return done

    def resume(self) -> tuple[int, Snapshot | None]:
        """How many iterations are finished, and the policy of the last, read and verified (None: the base).

        An iteration whose policy is damaged or lost is not finished: it trains again on what was judged.
        """
        done = self.finished_iterations()
        while done and (snapshot := self.verified_snapshot(done)) is None:
            log.warning("iteration %d has no whole policy: it is trained again", done)
            files.set_aside(self._report(done))
            done -= 1
        return (done, snapshot) if done else (0, None)

    def snapshot(self, iteration: int) -> Snapshot | None:
        """The published policy of an iteration, if there is one. Cheap: only its manifest is read."""
        return read_snapshot(self._policy(iteration), iteration)

    def master(self, iteration: int) -> Path:
        """Where the float32 weights of an iteration are until the one after the next is trained."""
        return self.iteration(iteration) / "master"

    def kept(self, iteration: int) -> KeptShare | None:
        """How much of an iteration's update its snapshot keeps, where that is known."""
        snapshot = self.snapshot(iteration)
        found = read_manifest(self._policy(iteration), snapshot).get("kept") if snapshot else None
        return KeptShare(**found) if found else None

    def published(self, iteration: int) -> Snapshot:
        """The published policy of an iteration. Raises `RunFolderError` naming those that there are."""
        snapshot = self.snapshot(iteration)
        if snapshot is None:
            there = [str(t) for t in range(1, self.config().iterations + 1) if self.snapshot(t)]
            raise RunFolderError(
                f"{self.root} has no policy of iteration {iteration}; it has those of {', '.join(there) or 'none'}"
            )
        return snapshot

    def verified_snapshot(self, iteration: int) -> Snapshot | None:
        """The published policy of an iteration, every file of it read and verified; a damaged one is set aside."""
        snapshot = self.snapshot(iteration)
        try:
            if snapshot:
                verify(snapshot)
        except DamagedFile as error:
            log.warning("%s: set aside, published again", error)
            files.set_aside(self._policy(iteration) / MANIFEST)
            return None
        return snapshot

    def prune(self, keep: int | None, in_use: Snapshot, anchors: Sequence[int] = ()) -> None:
        """Remove all published policies but the last `keep` (None: all stay), the one in use and the anchors."""
        published = [t for t in range(in_use.iteration, 0, -1) if self.snapshot(t)]
        for iteration in published[keep:] if keep else []:
            if iteration != in_use.iteration and iteration not in anchors:
                withdraw(self._policy(iteration))

    def report(self, iteration: int) -> dict[str, Any] | None:
        try:
            report: dict[str, Any] = json.loads(files.read_bytes(self._report(iteration)))
        except FileNotFoundError:
            return None
        return report

    def _report(self, iteration: int) -> Path:
        return self.iteration(iteration) / "report.json"

    def _policy(self, iteration: int) -> Path:
        return self.iteration(iteration) / "policy"

    def reports(self) -> list[dict[str, Any]]:
        """The reports of the finished iterations, in order."""
        reports = map(self.report, range(1, self.finished_iterations() + 1))
        return [report for report in reports if report is not None]

    def write_report(self, iteration: int, report: dict[str, Any]) -> None:
        files.write_json(self._report(iteration), report)

    def training_log(self, iteration: int) -> Path:
        return self.iteration(iteration) / "training.jsonl"

    def training_rows(self, iteration: int) -> list[dict[str, Any]]:
        """The numbers of each step of an iteration, in order."""
        return [json.loads(line) for line in files.read_bytes(self.training_log(iteration)).splitlines()]

    def config(self) -> Config:
        """The configuration as the run's user wrote it: `playground` is not resolved to a path."""
        path = self.root / "config.yaml"
        try:
            return validated(yaml.safe_load(files.read_bytes(path))["config"])
        except (FileNotFoundError, NotADirectoryError):
            raise RunFolderError(f"{self.root} is no run folder: it holds no config.yaml") from None
        except ConfigError as error:
            raise RunFolderError(
                f"{path} is of another version of sppo-ray: {error}. Use that version, or choose another --run-dir"
            ) from None

    def claim(self, config: Config, about: dict[str, Any]) -> bool:
        """Write config.yaml into a new run folder, or check that it holds the same run. True if it is new.

        Keys that may change take their new values. Raises `RunFolderError` naming each key that differs and may not.
        """
        path = self.root / "config.yaml"
        new = not path.exists()
        if not new:
            changed = changes(self.config(), config)
            if bound := [change for change in changed if not change.free]:
                raise RunFolderError(
                    f"{self.root} holds a run made with another configuration:\n"
                    + "\n".join(f"  {change.key}: {change.old!r} there, {change.new!r} now" for change in bound)
                    + "\nThese keys change the numbers of a run: keep their values, or choose another --run-dir."
                )
            if not changed:
                return False
            if any(change.key == "training.workers" for change in changed):
                self._drop_checkpoints()
            about = yaml.safe_load(files.read_bytes(path))
            del about["config"]
        content = {"config": config.model_dump(mode="json"), **about}
        files.write_bytes(path, yaml.safe_dump(content, sort_keys=False).encode())
        return new

    def _drop_checkpoints(self) -> None:
        """Remove the checkpoints of an iteration in training: ZeRO-3 loads them into as many workers as wrote them only."""
        if self.checkpoints.exists():
            log.warning(
                "training.workers has changed, and another number of workers cannot load the checkpoint: "
                "the open iteration is trained again from its first step; what was sampled and judged is kept"
            )
            files.remove(self.checkpoints)


def _verified(path: Path) -> bytes:
    """A block's bytes. Raises `DamagedFile` unless its digest vouches for them, FileNotFoundError without a block."""
    data = files.read_bytes(path)
    if not blocks.is_whole(data):
        raise DamagedFile(f"{path} does not match its digest")
    return data
