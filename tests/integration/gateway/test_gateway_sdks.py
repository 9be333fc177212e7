"""Clients of OpenAI's API, from their registries, run unchanged against the gateway: each in a process of its own.

`make sdks` fetches them; without one its test is skipped. OpenAI's Python package is among the tests' own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scripted_market import gateway

from protocol.errors import LostPeerError, RefusedError

ROOT = Path(__file__).resolve().parents[3]
SDKS = Path(os.environ.get("JOULE_SDKS", ROOT / "runs" / "sdks"))
"""With a virtual environment `venv`, and `node_modules`."""
SCRIPTS = ROOT / "tests" / "support" / "sdks"
ENOUGH_S = 120


def python_with(package: str) -> str | None:
    """An interpreter that has a package."""
    for each in (sys.executable, str(SDKS / "venv" / "bin" / "python")):
        found = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
        if Path(each).exists() and subprocess.run([each, "-c", found], check=False).returncode == 0:
            return each
    return None


async def runs(tmp_path: Path, *command: str) -> None:
    """Whether a script says that all went well."""
    async with gateway(tmp_path) as door:
        door.market.by_prompt = {
            "weather": ("<tool_call>", '{"name": "weather", "arguments": {"place": "Lyon"}}', "</tool_call>"),
            "break": ("Once ", LostPeerError("gone")),
            "for ever": ("Once ", asyncio.Event()),
        }
        door.market.refused_once = {"later": RefusedError("busy", retry_s=1)}
        process = await asyncio.create_subprocess_exec(
            *[each.replace("URL", door.url) for each in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        )
        async with asyncio.timeout(ENOUGH_S):
            said, _ = await process.communicate()
        assert said.decode().splitlines()[-1:] == ["well"], said.decode()
        for answer in door.market.answers:
            async with asyncio.timeout(10):
                await answer.closed.wait()  # also the one that was left


def skip_without(what: str | None, name: str) -> str:
    if what is None:
        pytest.skip(f"no {name} here: `make sdks` fetches it")
    return what


@pytest.mark.asyncio
async def test_openai_for_python(tmp_path: Path) -> None:
    python = skip_without(python_with("openai"), "openai for Python")
    await runs(tmp_path, python, str(SCRIPTS / "with_openai.py"), "URL")


@pytest.mark.asyncio
async def test_openai_for_javascript(tmp_path: Path) -> None:
    node = skip_without(shutil.which("node"), "Node.js")
    if not (SDKS / "node_modules" / "openai").is_dir():
        skip_without(None, "openai for JavaScript")
    await runs(tmp_path, node, str(SCRIPTS / "with_openai.mjs"), "URL", str(SDKS))


@pytest.mark.long
@pytest.mark.asyncio
@pytest.mark.parametrize("package", ["langchain_openai", "litellm"])
async def test_packages_above_it(tmp_path: Path, package: str) -> None:
    script = {"langchain_openai": "with_langchain.py", "litellm": "with_litellm.py"}[package]
    await runs(tmp_path, skip_without(python_with(package), package), str(SCRIPTS / script), "URL")
