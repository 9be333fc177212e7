"""The commands of a documentation page, and a place to run them as printed.

Pages say with a comment in the first line of a block where it runs: ``# in a terminal of its own`` for what goes on
until it is stopped, ``# on the other machine`` for another home. A command whose comment ends in ``fails with status
N`` has to. Everything else runs in one shell, block after block, in a folder that looks like the source's.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = ROOT / ".venv" / "bin"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVICE = "# in a terminal of its own"
ELSEWHERE = "# on the other machine"
FAILS = re.compile(r"# fails with status (\d+)$")
READY_S = 60
COMMAND_S = 90


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    language: str
    text: str

    @property
    def is_service(self) -> bool:
        return self.text.startswith(SERVICE)

    @property
    def is_elsewhere(self) -> bool:
        return self.text.startswith(ELSEWHERE)


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    return [Block(*found) for found in FENCE.findall(page.read_text())]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class Reader:
    """Somebody who follows a page on a machine of his own: what he has exported and where he is carries on.

    Args:
        folder: his machine.
        tools: a folder whose commands are found before all others.
        names: what a page calls something, and what it is called here.
    """

    folder: Path
    tools: Path
    names: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    services: list[subprocess.Popen[str]] = field(default_factory=list)
    starting: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "source").mkdir(parents=True)
        for each in ROOT.iterdir():
            if each.name not in {".git", "runs", "site"}:
                (self.folder / "source" / each.name).symlink_to(each)
        self._keep("home")

    def _keep(self, home: str) -> None:
        """What stands in the environment before the first command."""
        (self.folder / home).mkdir()
        bare = {
            "HOME": str(self.folder / home),
            "PATH": f"{self.tools}:{INSTALLED}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "JOULE_PASSPHRASE": "what a person types",
            "JOULE_PORT": str(self.port),
            "JOULE_LEDGER": self.ledger,
            "OMP_NUM_THREADS": "1",
        }
        lines = [f'export {name}="{value}"' for name, value in bare.items()]
        (self.folder / f"{home}.env").write_text("\n".join([*lines, f'cd "{self.folder / "source"}"']))

    @property
    def ledger(self) -> str:
        """URL of the ledger on this machine."""
        return f"http://127.0.0.1:{self.port}"

    def called_here(self, text: str) -> str:
        """A page's text with the names that things have here."""
        for name, here in {"http://127.0.0.1:8645": self.ledger, **self.names}.items():
            text = text.replace(name, here)
        return text

    def follow(self, block: Block) -> str:
        """Run a block as it says; what it printed. Raises AssertionError where it does not do what the page says."""
        text = self.called_here(block.text)
        if block.is_service:
            return self._start(text)
        home = "home"
        if block.is_elsewhere:
            home = "elsewhere"
            self._keep(home)
        return self._run(text, home)

    def _run(self, text: str, home: str) -> str:
        state = self.folder / f"{home}.env"
        keep = f'(export -p; printf "cd %q\\n" "$PWD") > {state}'
        done = subprocess.run(
            ["bash", "-c", f". {state}\nset -eux\n{_expecting(text)}\n{{ set +x; }} 2>/dev/null\n{keep}"],
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        assert done.returncode == 0, f"{text}\nstatus {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _start(self, text: str) -> str:
        script = f". {self.folder / 'home.env'}\n{text.replace('joule ', 'exec joule ', 1)}"
        process = subprocess.Popen(
            ["bash", "-c", script], env={}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self.services.append(process)
        self.starting.append(process)
        if "ledger run" in text:
            self.until_ready()  # nodes that come next need it, and start beside one another
        return script

    def until_ready(self) -> None:
        """Until every service says so."""
        while self.starting:
            process, said = self.starting.pop(0), []
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line)
                if "ready" in line:
                    break
            else:
                raise AssertionError(f"a service ended before it was ready: {''.join(said)}")

    def stop(self) -> None:
        """Ctrl-C in every other terminal, newest first; each has to end well, and say so."""
        while self.services:
            process = self.services.pop()
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=READY_S)
            assert process.returncode == 0, out
            assert out.rstrip().endswith("stopped"), out

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.services:
            process.kill()
            process.communicate()


def _expecting(text: str) -> str:
    """The commands, where one that has to fail is turned round."""
    return "\n".join(_lines(text))


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        found = FAILS.search(line)
        if found is None:
            yield line
        else:
            yield f"status=0; {line[: found.start()]} || status=$?; [ $status -eq {found[1]} ]"
