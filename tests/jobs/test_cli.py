"""The command line against a real service: what it prints, what it does to the run, how it finds the service."""

import io
import socketserver
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator
from typing import ClassVar

import pytest

from jobs import cli, demo, plan, show
from sppo_ray.errors import RunFailed
from sppo_ray.fakes import FakeRun
from sppo_ray.records import ChatRequest, TokenDelta
from sppo_ray.web.address import Address, find_address
from tests import ROOT
from tests.web.serving import TOKEN, sampled_folder, served


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose service this machine knows."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("SPPO_RAY_URL", raising=False)
    run = FakeRun(sampled_folder(tmp_path / "run"))
    with served(run) as url:
        path = Address(str(tmp_path / "run"), url, TOKEN).write()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        yield run


@pytest.fixture
def said(run, capsys):
    """Runs a command that succeeds; returns what it printed."""

    def call(*words):
        assert cli.main(list(words)) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return call


def test_status_pause_and_resume(said):
    text = said("status")
    assert "run: iteration 2 of 3, sampling, judging, training" in text
    assert "generator-1" in text and "generators (2 wanted, 1 to 4)" in text
    assert "640" in text and "320" in text and "80" in text  # tokens/s and sequences of the pool, tokens/s of a member
    assert "paused" in said("pause")
    assert "paused" not in said("resume")


def test_scale(said, run):
    assert "generators (4 wanted, 1 to 4)" in said("scale", "generators", "4")


def test_samples_show_what_was_preferred(said):
    text = said("samples", "--search", "GOOD")
    assert "Prompt p0" in text and text.index("Good day") < text.index("<img src=x onerror=alert(1)>")
    assert "iteration 1: 1 samples, page 1 of 1" in text


def test_chat_with_words_and_line_by_line(said, monkeypatch):
    assert said("chat", "Hello", "you") == "w00 w01 w02 w03 w04 \n"
    lines = iter(["Hello", "again"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines, None) or (_ for _ in ()).throw(EOFError))
    assert said("chat") == "w00 w01 w02 w03 w04 \n" * 2


def test_what_the_service_refuses_is_said(run, capsys):
    assert cli.main(["scale", "generators", "9"]) == 1
    assert "9 is not between min = 1 and max = 4" in capsys.readouterr().err


def test_a_run_that_does_not_serve_is_the_users_to_name(run, capsys):
    assert cli.main(["--run", "other", "status"]) == 2
    assert "no run other of yours serves on this machine" in capsys.readouterr().err
    assert cli.main(["--url", "http://127.0.0.1:1", "status"]) == 2
    assert "belong together" in capsys.readouterr().err
    assert cli.main(["--url", "http://127.0.0.1:1", "--token", "x", "status"]) == 1


def test_the_run_is_named_before_or_after_the_command(said, run):
    for words in (["--run", "run", "status"], ["status", "--run", "run"], ["status", "--run", str(run.ledger.root)]):
        assert "run: iteration 2 of 3" in said(*words)


def test_runs_of_one_folder_name_keep_their_addresses(run, capsys, tmp_path):
    other = Address(str(tmp_path / "elsewhere" / "run"), "http://127.0.0.1:1", "other")
    other.write()
    assert cli.main(["status", "--run", "run"]) == 2
    assert f"2 runs are called run: use --run with the folder of one of them: {tmp_path}" in capsys.readouterr().err
    assert cli.main(["status", "--run", str(tmp_path / "run")]) == 0
    assert find_address(None) == find_address(other.root) == other


class Proxy(socketserver.StreamRequestHandler):
    """Stands in for a proxy; remembers what it is sent."""

    seen: ClassVar[list[bytes]] = []

    def handle(self) -> None:
        self.seen.append(self.request.recv(4096))
        self.request.sendall(b"HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture
def proxy(monkeypatch):
    """What a proxy saw that the environment names for everything."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_address[1]}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        Proxy.seen.clear()
        yield Proxy.seen
        server.shutdown()


def test_calls_to_this_machine_never_pass_a_proxy(said, proxy, capsys):
    url = find_address(None).url
    for words in (["status"], ["chat", "Hello"], ["--url", url, "--token", TOKEN, "status"]):
        said(*words)
    said("--url", url.replace("127.0.0.1", "localhost"), "--token", TOKEN, "status")
    assert proxy == []
    assert cli.main(["--url", "http://gateway.example", "--token", "x", "status"]) == 1
    assert b"GET http://gateway.example/api/run" in proxy[0]  # others obey the environment


def test_a_socks_proxy_does_not_matter_to_this_machine(said, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    assert "run: iteration 2 of 3" in said("status")


def test_a_proxy_that_cannot_be_used_is_the_users_to_mend(run, monkeypatch, capsys):
    monkeypatch.setenv("ALL_PROXY", "socks9://127.0.0.1:1")
    assert cli.main(["--url", "http://gateway.example", "--token", "x", "status"]) == 2
    assert "http://gateway.example cannot be reached: Unknown scheme for proxy URL" in capsys.readouterr().err


def test_the_demo_excepts_this_machine_from_proxies(proxy, monkeypatch):
    assert demo.head_environment()["no_proxy"] == demo.head_environment()["NO_PROXY"] == "127.0.0.1,localhost"
    monkeypatch.setenv("NO_PROXY", "internal.example")
    monkeypatch.setenv("RAY_ADDRESS", "http://elsewhere:8265")
    environment = demo.head_environment()
    assert environment["NO_PROXY"] == "internal.example,127.0.0.1,localhost"
    assert "RAY_ADDRESS" not in environment


def test_what_breaks_during_an_answer_is_said(run, capsys, monkeypatch):
    async def broken(ask: ChatRequest) -> AsyncGenerator[TokenDelta]:
        yield TokenDelta(0, "w0 ", 1, "iter-1")
        raise RunFailed("the engine died")

    monkeypatch.setattr(run, "chat", broken)
    assert cli.main(["chat", "Hello"]) == 1
    assert "error: the engine died" in capsys.readouterr().err


def test_a_terminal_without_unicode_shows_escapes(run, monkeypatch):
    for words in (["samples", "--search", "STRASSE"], ["plan", "--recipe", "gemma-2-9b-it"]):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
        assert cli.main(words) == 0
        sys.stdout.flush()
        assert raw.getvalue()
        assert words[0] == "plan" or b"Stra\\xdfe" in raw.getvalue()


def test_a_reader_that_has_seen_enough_ends_a_command_without_a_word():
    with subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", "show"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as command:
        command.stdout.close()
        assert command.stderr.read() == b""


def test_show_and_plan_are_those_of_the_jobs(capsys):
    recipe = ["--recipe", "gemma-2-9b-it"]
    for name, job, line in (("show", show, "learning_rate:               5e-07"), ("plan", plan, "GPU-hours")):
        assert cli.main([name, *recipe]) == 0
        printed = capsys.readouterr().out
        assert job.main(recipe) == 0 and capsys.readouterr().out == printed and line in printed
    assert cli.main(["evaluate", "summarize", "/nowhere.json"]) == 2


def test_each_job_has_its_command(capsys):
    studies = ("cli", "bench", "compare", "compare_real", "gpu_bench")  # all but the first are for a checkout
    started = {
        f"jobs.{path.stem}"
        for path in (ROOT / "jobs").glob("*.py")
        if "__main__" in path.read_text("utf-8") and path.stem not in studies
    }
    assert started - {module for module, _ in cli.JOBS.values()} == set()
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    for name, (_, words) in cli.JOBS.items():
        assert f"    {name} " in text and words.split(",")[0][:40] in text


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], ["policy.dtype=float32"]),
        (["policy.dtype=bfloat16", "seed=1"], []),
        (["--recipe", "smollm2-135m-instruct"], ["policy.model=m", "policy.dtype=float32"]),
        (["--recipe=smollm2-135m-instruct", "policy.model=/m"], ["policy.dtype=float32"]),
        (["--config", "mine.yaml"], []),
        (["--recipe", "gemma-2-9b-it"], []),
    ],
)
def test_the_demo_takes_the_precision_that_the_machine_is_fast_in(words, found, monkeypatch):
    monkeypatch.setattr(demo, "small_model", lambda: "m")
    monkeypatch.setattr(demo, "slow_in_bf16", lambda: "AVX2")
    assert demo.overrides(words) == found
    monkeypatch.setattr(demo, "slow_in_bf16", lambda: None)
    assert demo.overrides(words) == [word for word in found if "dtype" not in word]
