"""Start a self-play run; watch, steer and talk to one in progress.

`sppo-ray COMMAND --help` describes each command. Those from `status` on talk to the run that started last on this
machine, to the one of --run, or to the one at --url with --token.
Exit status: 0 done, 1 the run did not answer or refused, 2 the input is at fault; of `run` and `plan` see their help.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import httpx
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.command_line import command, duration
from sppo_ray.config import on_this_machine
from sppo_ray.errors import ConfigError
from sppo_ray.web.address import find_address

# Command -> module whose `main` it is, and what it does.
JOBS = {
    "run": ("jobs.sppo", "run self-play, or continue a run"),
    "init": ("jobs.init", "write a recipe for your model, prompts and judge that fits this machine or cluster"),
    "check": ("jobs.check", "read and check prompts, models and settings, and start nothing"),
    "show": ("jobs.show", "print the resolved recipe, and start nothing"),
    "plan": ("jobs.plan", "print the memory, time and cost of a run, without a GPU"),
    "judge": ("jobs.judge", "score a file of prompts and responses, and report on the judge"),
    "evaluate": ("jobs.evaluate", "win rates, best-of-n and AlpacaEval outputs of a policy"),
    "export": ("jobs.export", "write a trained policy to a plain folder, or send it to the hub"),
    "demo": ("jobs.demo", "run the playground on a Ray head of its own, as a submitted job"),
}
Json = dict[str, Any]


@command
def main(arguments: list[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    if words and words[0] in JOBS:
        module, _ = JOBS[words[0]]
        status: int = import_module(module).main(words[1:])
        return status
    given = parse(words)
    try:
        with connect(given) as client:
            given.command(client, given)
    except httpx.HTTPError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def parse(words: list[str]) -> argparse.Namespace:
    description, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        "sppo-ray", description=description, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    # Also after the command, where an option that is absent must not overwrite the one before it.
    which = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    for place in (parser, which):
        place.add_argument("--run", metavar="NAME", help="the run, by the name or the path of its folder")
        place.add_argument("--url", help="of the run's service (default: SPPO_RAY_URL)")
        place.add_argument("--token", help="from the file that the run's log names (default: SPPO_RAY_TOKEN)")
    parser.set_defaults(url=os.environ.get("SPPO_RAY_URL"), token=os.environ.get("SPPO_RAY_TOKEN"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (_, help_) in JOBS.items():
        commands.add_parser(name, help=help_)

    def add(name: str, command: Any, help_: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(name, help=help_, description=help_, parents=[which])
        added.set_defaults(command=command, action=name)
        return added

    add("status", status, "print the progress of the run, its pools and its warnings")
    add("pause", steer, "start no new work")
    add("resume", steer, "continue after a pause")
    add("stop", steer, "write a checkpoint and end the run; the same `run` command continues it")
    scaling = add("scale", scale, "set the number of members of a pool")
    scaling.add_argument("pool", choices=("generators", "rankers"))
    scaling.add_argument("target", type=int)
    reading = add("samples", samples, "print what the policy wrote and the judge preferred")
    reading.add_argument("iteration", type=int, nargs="?", help="default: the last with samples")
    reading.add_argument("--sort", choices=("margin", "disagreement", "prompt"), default="margin")
    reading.add_argument("--search", default="", metavar="WORDS")
    reading.add_argument("--page", type=int, default=1)
    reading.add_argument("--size", type=int, default=5)
    chatting = add("chat", chat, "talk to the policy; without WORDS line by line")
    chatting.add_argument("words", nargs="*", metavar="WORDS")
    chatting.add_argument("--model", default="policy", help="or policy-best-of-4: the judge's choice among four")
    return parser.parse_args(words)


def connect(given: argparse.Namespace) -> httpx.Client:
    """A client of the run's service. What is sent to this machine, the token with it, never passes a proxy."""
    if bool(given.url) != bool(given.token):
        raise ConfigError("--url and --token (SPPO_RAY_URL, SPPO_RAY_TOKEN) belong together: set both")
    if given.url:
        url, token, proxies = given.url, given.token, not on_this_machine(given.url)
    else:
        address = find_address(given.run)
        url, token, proxies = address.url, address.token, False
    headers = {"Authorization": f"Bearer {token}"}
    try:
        return httpx.Client(
            base_url=url, headers=headers, timeout=120, event_hooks={"response": [refuse]}, trust_env=proxies
        )
    except (ImportError, ValueError, httpx.InvalidURL) as error:  # of --url, or of a proxy that the environment names
        raise ConfigError(f"{url} cannot be reached: {error}") from None


def refuse(answer: httpx.Response) -> None:
    """Raise what the service answers instead of a result."""
    if answer.is_error:
        answer.read()
        detail = answer.json()["detail"] if "json" in answer.headers.get("content-type", "") else answer.text
        raise httpx.HTTPStatusError(detail, request=answer.request, response=answer)


def status(client: httpx.Client, _: argparse.Namespace) -> None:
    show(client.get("/api/run").json())


def steer(client: httpx.Client, given: argparse.Namespace) -> None:
    show(client.post(f"/api/{given.action}").json())


def scale(client: httpx.Client, given: argparse.Namespace) -> None:
    client.post(f"/api/pools/{given.pool}/target", json={"target": given.target})
    Console().print(pools(client.get("/api/pools").json()))


def samples(client: httpx.Client, given: argparse.Namespace) -> None:
    iteration = given.iteration or max(1, client.get("/api/run").json()["finished"])
    query = {"sort": given.sort, "search": given.search, "page": given.page, "size": given.size}
    found = client.get(f"/api/iterations/{iteration}/samples", params=query).json()
    for sample in found["samples"]:
        table = Table(box=box.SIMPLE_HEAD, title=Text(sample["prompt"]), title_justify="left", title_style="bold")
        table.add_column("win rate", justify="right")
        table.add_column("")
        table.add_column("response")
        for response in sorted(sample["responses"], key=lambda one: -one["win_rate"]):
            table.add_row(f"{response['win_rate']:.3f}", response["mark"], Text(response["text"]))
        Console().print(table)
    pages = -(-found["total"] // given.size)
    Console().print(f"iteration {iteration}: {found['total']} samples, page {given.page} of {max(1, pages)}")


def chat(client: httpx.Client, given: argparse.Namespace) -> None:
    if given.words:
        answer(client, given.model, [{"role": "user", "content": " ".join(given.words)}])
        return
    messages: list[Json] = []
    while True:
        try:
            said = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if said:
            messages.append({"role": "user", "content": said})
            messages.append({"role": "assistant", "content": answer(client, given.model, messages)})


def answer(client: httpx.Client, model: str, messages: list[Json]) -> str:
    """Print an answer while it is sampled, and return it."""
    whole = ""
    body = {"model": model, "messages": messages, "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=body) as stream:
        for piece in pieces(stream):
            print(piece, end="", flush=True)
            whole += piece
    print()
    return whole


def pieces(stream: httpx.Response) -> Iterator[str]:
    for line in stream.iter_lines():
        if line.startswith("data: {"):
            chunk = json.loads(line[len("data: ") :])
            if "error" in chunk:
                raise httpx.ReadError(chunk["detail"])
            yield chunk["choices"][0]["delta"]["content"]


def show(run: Json) -> None:
    head = f"{run['run']}: iteration {run['iteration']} of {run['iterations']}, {run['phase']}"
    Console().print(Text(head + (", paused" if run["paused"] else ""), style="bold"))
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("stage", "done", "of", "rate", "left"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in run["stages"]:
        rate = "-" if stage["rate"] is None else f"{stage['rate']:.3g} {stage['unit']}/s"
        table.add_row(stage["name"], str(stage["done"]), str(stage["total"]), rate, duration(stage["seconds_left"]))
    Console().print(table)
    if run["step"]:
        Console().print("  ".join(f"{key} {value:.4g}" for key, value in run["step"].items() if value is not None))
    Console().print(pools(run["pools"]))
    failures = [
        f"{member['name']} did not start: {member['failure']}"
        for pool in run["pools"]
        for member in pool["members"]
        if member["failure"]
    ]
    paused = [f"paused: {run['pause_reason']}; `sppo-ray resume` tries again"] if run["pause_reason"] else []
    for words in paused + run["warnings"] + failures:
        Console().print(Text(words, style="yellow"))
    if run["seconds_left"]:
        Console().print(f"about {duration(run['seconds_left'])} left")


def pools(found: list[Json]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("pool", "member", "state", "calls", "restarts", "holds", "tokens/s", "sequences"):
        table.add_column(column)
    for pool in found:
        table.add_row(
            f"{pool['name']} ({pool['target']} wanted, {pool['min']} to {pool['max']})", *[""] * 5, *live(pool)
        )
        for member in pool["members"]:
            state = member["state"]
            if member["retry_at"] is not None:
                state += f", again in {duration(max(0.0, member['retry_at'] - time.time()))}"
            numbers = str(member["load"]), str(member["restarts"])
            table.add_row("", member["name"], state, *numbers, member["snapshot"] or "-", *live(member))
    return table


def live(one: Json) -> tuple[str, str]:
    """Tokens per second and sequences in flight of a member or a pool."""
    rate, sequences = one["tokens_per_second"], one["sequences"]
    return "-" if rate is None else f"{rate:,.0f}", "-" if sequences is None else str(sequences)


if __name__ == "__main__":
    sys.exit(main())
