"""The command line against a real service: what it prints, what it does to the run, how it finds the service."""

import stat

import pytest

from jobs import cli
from sppo_ray.fakes import FakeRun
from sppo_ray.web.address import Address
from tests.web.serving import TOKEN, sampled_folder, served


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose service this machine knows."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("SPPO_RAY_URL", raising=False)
    run = FakeRun(sampled_folder(tmp_path / "run"))
    with served(run) as url:
        path = Address("run", url, TOKEN).write()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        yield run


@pytest.fixture
def said(run, capsys):
    """Runs a command that succeeds and gives what it printed."""

    def call(*words):
        assert cli.main(list(words)) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return call


def test_status_pause_and_resume(said):
    text = said("status")
    assert "run: iteration 2 of 3, sampling, judging, training" in text
    assert "generator-1" in text and "generators (2 wanted, 1 to 4)" in text
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


def test_plan_and_evaluate_are_those_of_the_jobs(capsys):
    assert cli.main(["plan", "--recipe", "gemma-2-9b-it"]) == 0
    assert "learning_rate:" in capsys.readouterr().out
    assert cli.main(["evaluate", "summarize", "/nowhere.json"]) == 2
