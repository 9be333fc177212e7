"""A browser that a test steers, by the WebDriver protocol: Debian's chromium and its driver."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

__all__ = ["Browser", "browser", "has_browser"]

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
PATIENCE_S = 60


def has_browser() -> bool:
    """Whether both programs are here."""
    return shutil.which("chromium") is not None and shutil.which("chromedriver") is not None


class Browser:
    """One window."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def _ask(self, method: str, path: str, **body: Any) -> Any:
        given = {"json": body} if method == "POST" else {}
        async with self._session.request(method, f"{self._url}{path}", **given) as answer:
            value = (await answer.json())["value"]
            assert answer.status == 200, value
            return value

    async def open(self, url: str) -> None:
        await self._ask("POST", "/url", url=url)

    async def be(self, width: int, height: int) -> None:
        """A screen of so many pixels: no window gets as small as a phone's."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
        await self._ask("POST", "/goog/cdp/execute", cmd="Emulation.setDeviceMetricsOverride", params=size)

    async def give_file(self, css: str, file: Path) -> None:
        """Choose a file in a field."""
        element = await self._ask("POST", "/element", using="css selector", value=css)
        await self._ask("POST", f"/element/{element[_ELEMENT]}/value", text=str(file))

    async def run(self, script: str) -> Any:
        """What a function's body returns in the page, or what its promise comes to."""
        return await self._ask("POST", "/execute/sync", script=script, args=[])

    async def until(self, condition: str) -> Any:
        """What an expression comes to in the page, once that is something."""
        seen = f"const seen = () => {{ const found = {condition}; if (found) {{ watch.disconnect(); done(found); }} }};"
        script = f"return new Promise((done) => {{ {seen} const watch = new MutationObserver(seen); "
        script += "watch.observe(document, {subtree: true, childList: true, attributes: true}); seen(); });"
        return await self.run(script)


@contextlib.asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Browser]:
    """A browser with a profile of its own in `folder`."""
    driver = await asyncio.create_subprocess_exec("chromedriver", "--port=0", stdout=asyncio.subprocess.PIPE)
    assert driver.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            while (found := re.search(rb"successfully on port (\d+)", await driver.stdout.readline())) is None:
                pass
        options = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"]}
        wanted = {"goog:chromeOptions": options, "timeouts": {"script": PATIENCE_S * 1000}}
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{int(found[1])}/session"
            async with session.post(url, json={"capabilities": {"alwaysMatch": wanted}}) as answer:
                value = (await answer.json())["value"]
                assert answer.status == 200, value
            window = Browser(session, f"{url}/{value['sessionId']}")
            try:
                yield window
            finally:
                await window._ask("DELETE", "")
    finally:
        driver.terminate()
        await driver.communicate()
