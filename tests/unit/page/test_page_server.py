"""The live page over real sockets: who sees it, and what a browser may do with it."""

from __future__ import annotations

import asyncio
import base64
import functools
import html
import shutil
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from served_page import served_page

from node.app.buying.kept_receipts import ListedReceipt
from node.app.buying.markets import MarketBalance
from node.app.diagnosis.finding import Finding
from node.page.server import serve_page
from node.page.view import ClientView, NetworkView, NodeView, OfferView, PageState, PlaceView, RefusalView
from protocol.errors import ListenError

pytestmark = pytest.mark.asyncio
EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
SEEN = PageState(
    at=1_795_000_000,
    network=NetworkView(
        venue="http://127.0.0.1:8645", error=EVIL, checkpoint=None, witnesses=0, models=(), heard=1,
        places=(PlaceView(place="DE", north=51.2, east=10.4, offers=1, low_out=300_000),),
        offers=(
            OfferView(
                provider=bytes(20), model=EVIL, blocks=EVIL, place="DE", price_in=1, price_out=2, millijoules=None,
                source=EVIL, free=1, expires_at=0,
            ),
        ),
    ),
    nodes=(
        NodeView(
            address=bytes(20), serves=EVIL, jobs=0, tokens_per_s=None, energy=None, ask=(5, 6, 7), energy_cost=3,
            days=(), refusals=(RefusalView(code=EVIL, count=1, reason=EVIL),),
            findings=(Finding("ok", EVIL, EVIL, EVIL),),
        ),
    ),
    client=ClientView(
        address=None, free=None, spent=0, kept=1,
        markets=(MarketBalance(market=EVIL, venue=EVIL, free=None, held=1, error=EVIL),),
        receipts=(
            ListedReceipt(
                file=Path(EVIL), time=0, model=EVIL, tokens_in=None, tokens_out=None, paid=None, verified=False,
                error={"code": "x", "message": EVIL, "hint": ""},
            ),
        ),
    ),
)  # fmt: skip


async def seen() -> PageState:
    return SEEN


page = functools.partial(served_page, seen)


async def asked(url: str, **given: Any) -> tuple[int, dict[str, str], str]:
    async with aiohttp.ClientSession() as session, session.request(given.pop("method", "GET"), url, **given) as answer:
        return answer.status, dict(answer.headers), await answer.text()


@pytest.mark.parametrize(
    "path",
    ["", "page.js", "page.css", "land.svg", "verify/verify.mjs", "state", "nothing", "vendor/", "../../etc/passwd"],
)
async def test_every_answer_lets_no_strange_script_run(path: str) -> None:
    async with page() as url:
        status, headers, _ = await asked(url + path)
    assert status == (404 if path in ("nothing", "vendor/", "../../etc/passwd") else 200)
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"


async def test_nothing_but_reading_is_possible() -> None:
    async with page() as url:
        assert (await asked(url + "state", method="POST", data=b"{}"))[0] == 405


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8650"}, 200),
        ({"Host": "[::1]"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
async def test_pages_of_others_see_nothing(headers: dict[str, str], status: int) -> None:
    async with page() as url:
        assert (await asked(url + "state", headers=headers))[0] == status


def basic(said: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(said.encode()).decode()}


async def test_a_password_is_asked_for_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.page.server._WRONG_S", 0.0)
    async with page(password="a:secret") as url:
        status, headers, _ = await asked(url)
        assert status == 401
        assert headers["WWW-Authenticate"].startswith("Basic ")
        unreadable = [{"Authorization": said} for said in ("Basic ***", "Basic \u00e9", "Basic \udcff", "Bearer x")]
        for wrong in (*unreadable, basic("me:a"), basic("a:secret")):
            assert (await asked(url + "state", headers=wrong))[0] == 401
        # Behind a password it may be reached by any name.
        assert (await asked(url + "state", headers=basic("me:a:secret") | {"Host": "node.example.org"}))[0] == 200


async def test_passwords_are_not_guessed_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.page.server._WRONG_S", 60.0)
    async with page(password="secret") as url:
        guess = asyncio.create_task(asked(url, headers=basic("me:wrong")))
        while (await asked(url + "state"))[0] != 429:  # the guess is being waited for
            pass
        assert (await asked(url + "state", headers=basic("me:secret")))[0] == 429
        guess.cancel()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "node.example.org", "::"])
async def test_without_a_password_only_this_machine_is_served(host: str) -> None:
    with pytest.raises(ListenError, match="could read the page"):
        await serve_page(seen, host=host, port=0, password=None, ready=lambda _: None)


async def test_a_port_that_is_taken_is_told() -> None:
    async with page() as url:
        with pytest.raises(ListenError, match="cannot serve"):
            await serve_page(seen, host="127.0.0.1", port=int(url.split(":")[2][:-1]), password=None, ready=print)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no browser (Debian: apt-get install chromium)")
@pytest.mark.parametrize("view", ["network", "nodes", "jobs"])
async def test_in_a_browser_strangers_words_are_words(view: str, tmp_path: Path) -> None:
    async with page() as url:
        shown = await asyncio.to_thread(
            subprocess.run,
            [
                "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
                "--virtual-time-budget=3000", "--dump-dom", f"{url}#{view}",
            ],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
    assert "<title>Joulemesh</title>" in shown.stdout
    assert html.escape(EVIL, quote=False) in shown.stdout
    assert "as of" in shown.stdout
