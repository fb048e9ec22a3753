"""A trained policy as a plain folder, or on the Hugging Face hub.

    sppo-ray export RUN FOLDER [--iteration N] [--merge] [--push OWNER/NAME]

`python jobs/export.py` is the same. RUN: the folder or URI of a run. Writes the policy of its last iteration, or of --iteration, to
FOLDER, with its card: a model folder, or PEFT's adapter folder if the run trained an adapter. --merge adds the adapter to its base and
writes a model folder. --push then sends FOLDER to the hub, with the token of `hf auth login` or HF_TOKEN; a repository that is not
there is made. Prints what was written as JSON. Exit status: 0 done, 1 the export failed, 2 the input is at fault.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from jobs.command_line import command
from sppo_ray.config import Config
from sppo_ray.errors import ConfigError, RunFailed, RunFolderError, one_line
from sppo_ray.models import is_hub_name
from sppo_ray.records import Snapshot
from sppo_ray.run_folder import Ledger, copy_snapshot, files, location, reporting


@command
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="sppo-ray export", description="Write a trained policy to a folder.")
    parser.add_argument("run", metavar="RUN", help="the folder or URI of a run")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="a new folder for the policy")
    parser.add_argument("--iteration", metavar="N", type=int, help="default: the last of a finished run")
    parser.add_argument("--merge", action="store_true", help="add an adapter to its base: FOLDER is a plain model")
    parser.add_argument("--push", metavar="OWNER/NAME", help="also send FOLDER to this repository of the hub")
    given = parser.parse_args(arguments)
    result = export(given.run, given.folder.expanduser().absolute(), given.iteration, given.merge, given.push)
    print(json.dumps(result, indent=2))
    return 0


def export(run: str, folder: Path, iteration: int | None, merge: bool, push: str | None) -> dict[str, Any]:
    """Write the folder and send it; returns what was written, for people."""
    ledger = Ledger(location(run))
    config = ledger.config()
    snapshot = ledger.published(last_iteration(ledger, config) if iteration is None else iteration)
    if folder.exists():
        raise ConfigError(f"{folder} is there already: name a new folder")
    merged = merge and config.training.adapter.rank > 0
    if push is not None:
        check_repository(push, config, merged)
    with contextlib.redirect_stdout(sys.stderr):  # libraries log to it, and it is for the result
        write(folder, ledger, config, snapshot, merged)
    result: dict[str, Any] = {"run": run, "iteration": snapshot.iteration, "folder": str(folder)}
    return (
        result | {"url": send(folder, push, f"{config.recipe}, SPPO iteration {snapshot.iteration}")}
        if push
        else result
    )


def last_iteration(ledger: Ledger, config: Config) -> int:
    done = ledger.finished_iterations()
    if done < config.iterations:
        ready = f"--iteration {done} exports the last of these, and " if done else ""
        raise RunFolderError(
            f"{ledger.root}: {done} of {config.iterations} iterations are finished: {ready}the command that started the "
            "run continues it"
        )
    return done


def write(folder: Path, ledger: Ledger, config: Config, snapshot: Snapshot, merged: bool) -> None:
    """The folder appears whole or not at all."""
    from sppo_ray.reporting.cards import CARD, model_card

    temporary = files.temporary_name(folder)
    try:
        with reporting(folder):
            temporary.mkdir(parents=True)
            with tempfile.TemporaryDirectory() as adapter:
                copy_snapshot(snapshot, Path(adapter) if merged else temporary)
                if merged:
                    from sppo_ray.training.adapter import write_merged

                    write_merged(adapter, temporary, config.policy)
            card = model_card(config, snapshot.iteration, ledger.reports(), linked=False, merged=merged)
            (temporary / CARD).write_text(card, "utf-8")
        files.publish_folder(temporary, folder, last=CARD)
    finally:
        files.discard(temporary)


def check_repository(name: str, config: Config, merged: bool) -> None:
    """Make the repository, if it is not there: what the hub refuses is said before the policy is written."""
    from huggingface_hub import HfApi, get_token

    if not is_hub_name(name):
        raise ConfigError(f"--push {name}: give the owner and the name of a repository, such as me/{config.recipe}")
    if config.training.adapter.rank and not merged and not is_hub_name(config.policy.model):
        raise ConfigError(
            f"--push {name}: the adapter's base is a folder of this machine, where nobody else finds it: --merge sends the "
            "whole model"
        )
    if get_token() is None:
        raise ConfigError(f"--push {name} needs a token that may write there: `hf auth login`, or set HF_TOKEN")
    try:
        HfApi().create_repo(name, exist_ok=True)
    except Exception as error:
        raise ConfigError(
            f"--push {name}: the hub refuses it ({one_line(error)}): correct the name, or take a token that may write there"
        ) from error


def send(folder: Path, name: str, message: str) -> str:
    """Returns the address of the repository."""
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
    except Exception as error:
        raise RunFailed(
            f"{folder} is whole, but did not reach the hub ({one_line(error)}): try `hf upload {name} {folder}`"
        ) from error
    return f"{api.endpoint}/{name}"


if __name__ == "__main__":
    sys.exit(main())
