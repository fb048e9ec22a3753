"""`sppo-ray`: start a run, and watch, steer and talk to one that goes on.

    sppo-ray run [--recipe NAME] [key.path=value ...]      as jobs/sppo.py; so are plan and, for jobs/evaluate.py, evaluate
    sppo-ray status | pause | resume | stop | scale generators 4 | samples 1 --search WORDS | chat [WORDS]

The run started last on this machine is meant, else --run NAME, or --url and --token (SPPO_RAY_URL, SPPO_RAY_TOKEN).
Exit status: 0 done, 1 the run did not answer or refused, 2 the input is at fault.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import httpx
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sppo_ray.errors import ConfigError
from sppo_ray.web.address import find_address

console = Console()
Json = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] in (["run"], ["plan"]):
        from jobs import sppo

        return sppo.main([*(["--plan"] if words[0] == "plan" else []), *words[1:]])
    if words[:1] == ["evaluate"]:
        from jobs import evaluate

        return evaluate.main(words[1:])
    given = parse(words)
    try:
        with connect(given) as client:
            given.command(client, given)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except httpx.HTTPError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def parse(words: list[str]) -> argparse.Namespace:
    description, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        "sppo-ray", description=description, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", metavar="NAME", help="the run, by the name of its folder")
    parser.add_argument("--url", default=os.environ.get("SPPO_RAY_URL"), help="of the run's service")
    parser.add_argument("--token", default=os.environ.get("SPPO_RAY_TOKEN"), help="as the run printed it")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in ("run", "plan", "evaluate"):
        commands.add_parser(name, help={"run": "start a run", "plan": "what a run would do"}.get(name, "a policy"))
    for name, command, words_of_help in (
        ("status", status, "how far the run is"),
        ("pause", steer, "start no new work"),
        ("resume", steer, "go on after a pause"),
        ("stop", steer, "make a checkpoint and end; the same command continues the run"),
    ):
        commands.add_parser(name, help=words_of_help).set_defaults(command=command, action=name)
    scaling = commands.add_parser("scale", help="set how many members a pool is to have")
    scaling.add_argument("pool", choices=("generators", "rankers"))
    scaling.add_argument("target", type=int)
    scaling.set_defaults(command=scale)
    reading = commands.add_parser("samples", help="what the policy wrote and the judge preferred")
    reading.add_argument("iteration", type=int, nargs="?", help="default: the last with samples")
    reading.add_argument("--sort", choices=("margin", "disagreement", "prompt"), default="margin")
    reading.add_argument("--search", default="", metavar="WORDS")
    reading.add_argument("--page", type=int, default=1)
    reading.add_argument("--size", type=int, default=5)
    reading.set_defaults(command=samples)
    chatting = commands.add_parser("chat", help="talk to the policy; without WORDS line by line")
    chatting.add_argument("words", nargs="*", metavar="WORDS")
    chatting.add_argument("--model", default="policy", help="or policy-best-of-4: the judge's choice among four")
    chatting.set_defaults(command=chat)
    return parser.parse_args(words)


def connect(given: argparse.Namespace) -> httpx.Client:
    if bool(given.url) != bool(given.token):
        raise ConfigError("--url and --token (SPPO_RAY_URL, SPPO_RAY_TOKEN) belong together: give both")
    if given.url:
        url, token = given.url, given.token
    else:
        address = find_address(given.run)
        url, token = address.url, address.token
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=url, headers=headers, timeout=120, event_hooks={"response": [refuse]})


def refuse(answer: httpx.Response) -> None:
    """Raise what a problem says."""
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
    console.print(pools(client.get("/api/pools").json()))


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
        console.print(table)
    pages = -(-found["total"] // given.size)
    console.print(f"iteration {iteration}: {found['total']} samples, page {given.page} of {max(1, pages)}")


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
    """Print an answer as it comes, and give it."""
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
                raise httpx.StreamError(chunk["detail"])
            yield chunk["choices"][0]["delta"]["content"]


def show(run: Json) -> None:
    head = f"{run['run']}: iteration {run['iteration']} of {run['iterations']}, {run['phase']}"
    console.print(Text(head + (", paused" if run["paused"] else ""), style="bold"))
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("stage", "done", "of", "rate", "left"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in run["stages"]:
        rate = "-" if stage["rate"] is None else f"{stage['rate']:.3g} {stage['unit']}/s"
        table.add_row(stage["name"], str(stage["done"]), str(stage["total"]), rate, duration(stage["seconds_left"]))
    console.print(table)
    if run["step"]:
        console.print("  ".join(f"{key} {value:.4g}" for key, value in run["step"].items() if value is not None))
    console.print(pools(run["pools"]))
    for words in run["warnings"]:
        console.print(Text(words, style="yellow"))
    if run["seconds_left"]:
        console.print(f"about {duration(run['seconds_left'])} left")


def pools(found: list[Json]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("pool", "member", "state", "calls", "restarts", "holds"):
        table.add_column(column)
    for pool in found:
        table.add_row(f"{pool['name']} ({pool['target']} wanted, {pool['min']} to {pool['max']})")
        for member in pool["members"]:
            numbers = str(member["load"]), str(member["restarts"])
            table.add_row("", member["name"], member["state"], *numbers, member["snapshot"] or "-")
    return table


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    hours, minutes = divmod(round(seconds) // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{round(seconds)} s"


if __name__ == "__main__":
    sys.exit(main())
