"""The page in a real browser: progress moves, plots and samples show, a click steers, the chat answers, hostile text does nothing."""

from collections.abc import Iterator

import pytest

from sppo_ray.fakes import FakeRun
from tests.web.browser import Page, chromium, needs_chromium
from tests.web.serving import HOSTILE, TOKEN, sampled_folder, served

pytestmark = needs_chromium


class HostileRun(FakeRun):
    """Its policy answers with markup, its phase is markup."""

    async def chat(self, ask):
        async for piece in super().chat(ask):
            yield type(piece)(piece.index, HOSTILE, 1, piece.finish_reason)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    return HostileRun(sampled_folder(tmp_path_factory.mktemp("runs") / HOSTILE))


@pytest.fixture(scope="module")
def url(run: FakeRun) -> Iterator[str]:
    with served(run) as address:
        yield address


@pytest.fixture(scope="module")
def page(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page, logged in with the keyboard alone."""
    with chromium(tmp_path_factory.mktemp("browser")) as tab:
        log_in(tab, url)
        yield tab
        assert tab.complaints == []


def log_in(tab: Page, url: str) -> None:
    tab.open(url)
    tab.until("document.activeElement?.id === 'token'")
    tab.type(TOKEN)
    tab.key("Enter", "\r")
    tab.until("document.getElementById('link')?.textContent === 'live'")


def test_progress_moves_and_the_run_pauses_and_goes_on(page):
    bar = "document.querySelector('#stages progress').value"
    before = page.run(bar)
    page.until(f"{bar} > {before}")
    page.run("document.getElementById('pause').click()")
    page.until(
        "!document.getElementById('resume').disabled && document.getElementById('phase').textContent.includes('paused')"
    )
    page.run("document.getElementById('resume').click()")
    page.until("document.getElementById('resume').disabled")


def test_plots_show_what_is_finished(page):
    assert page.until("document.querySelectorAll('#charts svg').length") == 3
    assert (
        page.run("document.querySelector('#charts circle title').textContent") == "judge, vs base, 1: 0.75 (0.7 to 0.8)"
    )


def test_a_pool_says_what_it_samples_now(page):
    assert "640 tokens/s, 80 sequences in flight" in page.run("document.querySelector('.pool small').textContent")
    cells = (
        "[...document.querySelectorAll('.pool tbody tr')[0].children].slice(-2).map((cell) => cell.textContent).join()"
    )
    assert page.run(cells) == "320,40"


def test_a_pool_gets_another_target(page):
    rows = "document.querySelectorAll('.pool')[0].querySelectorAll('tbody tr').length"
    assert page.until(rows) == 2
    page.run(
        "const form = document.querySelector('.pool form'); form.querySelector('input').value = 3; form.requestSubmit()"
    )
    page.until(f"{rows} === 3")


def test_a_sample_opens_by_keyboard_and_is_text(page):
    page.run(
        "const sort = document.getElementById('sort'); sort.value = 'disagreement'; sort.dispatchEvent(new Event('input'))"
    )
    page.until("document.querySelector('#list summary .head')?.textContent === 'Prompt p0'")
    page.run("document.activeElement.blur()")
    page.key("j", "j")
    page.key("Enter", "\r")
    page.until("document.querySelector('#list details').open")
    texts = page.run(
        "[...document.querySelectorAll('#list details')[0].querySelectorAll('li pre')].map((pre) => pre.textContent)"
    )
    assert texts == ["Good day", HOSTILE]
    assert page.run("document.querySelectorAll('#list details')[0].querySelectorAll('.matrix tbody td').length") == 4
    assert page.run("document.querySelectorAll('img').length") == 0


def test_the_chat_answers_and_the_answer_is_text(page):
    page.run("document.getElementById('message').focus()")
    page.type("Hello")
    page.key("Enter", "\r")
    page.until(f"document.querySelector('#turns .assistant pre')?.textContent === {HOSTILE!r}.repeat(5)")
    assert page.run("document.querySelectorAll('img').length") == 0


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_is_wider_than_the_screen(page, width):
    page.window(width, 800)
    assert page.run("document.documentElement.scrollWidth") <= width


def test_the_page_reconnects_when_the_service_is_back(tmp_path):
    run, state = FakeRun(sampled_folder(tmp_path / "run")), "document.getElementById('link')?.textContent"
    with chromium(tmp_path) as tab:
        with served(run) as url:
            log_in(tab, url)
        tab.until(f"{state} === 'reconnecting'")
        with served(run, port=int(url.rpartition(":")[2])):
            tab.until(f"{state} === 'live'")
