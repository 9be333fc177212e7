"""The services of compose.yaml, each in an empty environment with the wheel, in the place of a container."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

pytestmark = [pytest.mark.slow, pytest.mark.long]
CONTAINER = Path(__file__).parents[2] / "scripts" / "container"
MODEL = Path(__file__).parents[2] / "node" / "demo" / "model"


class Machine:
    """Where the services run: each has a home and nothing else, and finds the others at this very machine."""

    def __init__(self, folder: Path, tools: Path) -> None:
        self.folder = folder
        self.services: dict[str, Any] = yaml.safe_load((CONTAINER / "compose.yaml").read_text())["services"]
        (folder / "passphrase").write_text("one of many\n")
        self._tools = tools

    def environment(self, service: str) -> dict[str, str]:
        home = self.folder / service
        home.mkdir(exist_ok=True)
        return {
            "PATH": f"{self._tools}:/usr/bin:/bin",
            "HOME": str(home),
            "JOULE_HOME": str(home),
            "PASSPHRASE_FILE": str(self.folder / "passphrase"),
            "OMP_NUM_THREADS": "1",
        }

    def called_here(self, command: str) -> list[str]:
        for service in self.services:
            command = command.replace(f"/{service}/", "/localhost/").replace(f"/{service}:", "/localhost:")
            command = command.replace(f"-announce {service}", "-announce localhost")
        return shlex.split(command.replace("0.0.0.0", "127.0.0.1").replace("/opt/joulemesh/demo-model", str(MODEL)))

    async def start(self, service: str) -> Process:
        command = [CONTAINER / "entrypoint.sh", *self.called_here(self.services[service]["command"])]
        process = await asyncio.create_subprocess_exec(
            *command, env=self.environment(service), cwd=self.folder, stdout=PIPE, stderr=STDOUT
        )
        assert process.stdout is not None
        said = []
        async with asyncio.timeout(120):
            while line := (await process.stdout.readline()).decode():
                said.append(line)
                if " ready" in line or "ready:" in line:
                    return process
        raise AssertionError(f"{service} ended: {''.join(said)}")

    async def exec(self, service: str, *command: str) -> str:
        """As `docker compose exec`."""
        process = await asyncio.create_subprocess_exec(
            *command, env=self.environment(service), cwd=self.folder, stdout=PIPE, stderr=PIPE
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode()


def in_turn(services: dict[str, Any]) -> Sequence[str]:
    """Each after those that it depends on."""
    done: list[str] = []
    while left := [name for name in services if name not in done]:
        done += [name for name in left if set(services[name].get("depends_on", ())) <= set(done)]
    return done


@pytest.mark.asyncio
async def test_the_market_of_the_compose_file_answers(tmp_path: Path, installed: Path) -> None:
    machine = Machine(tmp_path, installed)
    running = []
    try:
        for service in in_turn(machine.services):
            if service == "gateway":
                asked_for = ("faucet", "5", "--ledger", "http://localhost:8645")
                await machine.exec(service, str(CONTAINER / "entrypoint.sh"), *asked_for)
            running.append(await machine.start(service))
        made = json.loads(await machine.exec("gateway", "joule", "gateway", "key", "new", "app", "--json"))
        async with aiohttp.ClientSession("http://127.0.0.1:8640") as http:
            asked = {"model": "llama-6x192", "prompt": "17 + 25 =", "max_tokens": 8}
            async with http.post("/v1/completions", json=asked) as refused:
                assert refused.status == 401
            headers = {"Authorization": f"Bearer {made['secret']}"}
            async with http.post("/v1/completions", json=asked, headers=headers) as answer:
                assert answer.status == 200, await answer.text()
                assert "42" in (await answer.json())["choices"][0]["text"]
    finally:
        for process in reversed(running):
            process.terminate()
        stopped = [await process.wait() for process in running]
    assert stopped == [0] * len(machine.services)


def test_no_service_may_do_more_than_it_needs() -> None:
    for service in yaml.safe_load((CONTAINER / "compose.yaml").read_text())["services"].values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
    assert os.access(CONTAINER / "entrypoint.sh", os.X_OK)
