"""Meters at the socket: plugs that answer HTTP, and commands for rack distributors (PDU) and boards (IPMI).

An answer is taken whole or not at all: 64 KiB at most, within seconds, from the very address that was set; a redirect
is not followed. What is wrong with it is said in a sentence that names the setting.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from node.energy.values import POWER_UNITS, at_path, line_number, number_of, parse_json, scaled
from protocol.energy.energy_shares import Accuracy
from protocol.errors import MeterError

__all__ = ["WallGauge", "command_answer", "fetch", "http_answer", "shelly_answer", "tasmota_answer"]

ANSWER_S = 4.0
"""Seconds in which a meter has to answer."""
MAX_ANSWER = 64 * 1024
"""Bytes."""
_POWER_OF = {
    "switch": "apower", "pm1": "apower", "cover": "apower", "light": "apower",
    "em1": "act_power", "em": "total_act_power",
}  # fmt: skip
"""Parts of a Shelly of the second generation and later, and where each says its watts."""

Fetch = Callable[[str], bytes]
"""What is at an address. Raises MeterError."""
Answer = Callable[[], Decimal]
"""Asks the meter; the number that it shows. Raises MeterError."""


class WallGauge:
    """A meter at the socket.

    Args:
        name: for people, and for others who read the same one.
        answer: asks it.
        unit: of the number; see `values.UNITS`.
        error_ppm: how far it may be off, as its maker says.
    """

    def __init__(self, name: str, answer: Answer, unit: str, *, error_ppm: int | None = None) -> None:
        self.name = name
        self.is_power = unit in POWER_UNITS
        self.is_own = False
        self._answer = answer
        self._unit = unit
        self._ppm = error_ppm
        self._step: int | None = None

    @property
    def accuracy(self) -> Accuracy:
        """Its step follows from the decimals that it has shown."""
        return Accuracy(ppm=self._ppm, step_uj=None if self.is_power else self._step)

    def value(self) -> int:
        """Microwatts or microjoules. Raises MeterError."""
        value, step = scaled(self._answer(), self._unit)
        self._step = step if self._step is None else min(step, self._step)
        return value


def fetch(url: str) -> bytes:
    """What is at an address. It blocks, for `ANSWER_S` at most. Raises MeterError."""
    return asyncio.run(_fetch(url))


async def _fetch(url: str) -> bytes:
    where = public_url(url)
    limit = aiohttp.ClientTimeout(total=ANSWER_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit, trust_env=False) as session,
            session.get(url, allow_redirects=False, headers={"Accept": "application/json"}) as response,
        ):
            if 300 <= response.status < 400:
                raise MeterError(f"the meter at {where} sends elsewhere, and is not followed", hint="look at meter_url")
            if response.status != 200:
                raise MeterError(f"the meter at {where} answers {response.status}", hint="look at meter_url")
            raw = bytearray()
            async for chunk in response.content.iter_any():
                raw += chunk
                if len(raw) > MAX_ANSWER:
                    raise MeterError(f"the meter at {where} answers with more than {MAX_ANSWER >> 10} KiB")
            return bytes(raw)
    except TimeoutError:
        raise MeterError(f"the meter at {where} did not answer within {ANSWER_S:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise MeterError(f"the meter at {where} does not answer: {type(error).__name__}") from None


def public_url(url: str) -> str:
    """An address without what may be secret in it: user, password, query."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return (
        f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{f':{parts.port}' if parts.port else ''}{parts.path}"
    )


def http_answer(url: str, path: str, fetch: Fetch = fetch) -> Answer:
    """Any meter that answers with JSON: the number at a path, or the sum of some with ``+`` between them."""

    def answer() -> Decimal:
        said = parse_json(fetch(url))
        return sum((number_of(at_path(said, each.strip())) for each in path.split("+")), Decimal(0))

    return answer


def tasmota_answer(url: str, path: str, fetch: Fetch = fetch) -> Answer:
    """A plug with Tasmota: `Status 8`. `path` is the channel of one that has several."""

    def answer() -> Decimal:
        said = parse_json(fetch(f"{url}/cm?cmnd=Status%208"))
        power = at_path(said, "StatusSNS.ENERGY.Power")
        if isinstance(power, list) and not path:
            raise MeterError(f"the plug has {len(power)} channels", hint="say which with meter_path, from 0")
        return number_of(at_path(power, path))

    return answer


@dataclass(slots=True)
class _Shelly:
    url: str
    part: str
    fetch: Fetch
    generation: int | None = None

    def __call__(self) -> Decimal:
        if self.generation is None:
            about = parse_json(self.fetch(f"{self.url}/shelly"))
            found = about.get("gen", 1) if isinstance(about, dict) else None
            if not isinstance(found, int):
                raise MeterError("what answers there is no Shelly", hint="look at meter_url")
            self.generation = found
        if self.generation >= 2:
            return self._choose(_parts(parse_json(self.fetch(f"{self.url}/rpc/Shelly.GetStatus"))))
        return self._choose(_first_parts(parse_json(self.fetch(f"{self.url}/status"))))

    def _choose(self, parts: dict[str, Any]) -> Decimal:
        named = ", ".join(list(parts)[:8])
        if self.part:
            if self.part not in parts:
                raise MeterError(
                    f"the Shelly has no {self.part!r}, but {named or 'no meter'}", hint="look at meter_path"
                )
            return number_of(parts[self.part])
        if len(parts) != 1:
            hint = "say which with meter_path" if parts else "this model measures nothing"
            raise MeterError(f"the Shelly has {f'several meters: {named}' if parts else 'no meter'}", hint=hint)
        return number_of(next(iter(parts.values())))


def _parts(said: Any) -> dict[str, Any]:
    """Of the second generation and later: watts by part, such as ``switch:0``."""
    found = {}
    for name, value in said.items() if isinstance(said, dict) else ():
        field = _POWER_OF.get(name.partition(":")[0])
        if re.fullmatch(r"[a-z0-9]+:\d+", name) and field and isinstance(value, dict) and field in value:
            found[name] = value[field]
    return found


def _first_parts(said: Any) -> dict[str, Any]:
    """Of the first generation: watts by part, such as ``meters.0``."""
    found = {}
    for kind in ("emeters", "meters"):
        rows = said.get(kind) if isinstance(said, dict) else None
        for index, row in enumerate(rows if isinstance(rows, list) else ()):
            if isinstance(row, dict) and "power" in row and row.get("is_valid") is not False:
                found[f"{kind}.{index}"] = row["power"]
    return found


def shelly_answer(url: str, path: str, fetch: Fetch = fetch) -> Answer:
    """A Shelly of any generation. `path` is its part, such as ``switch:0`` or ``meters.0``, of one that has several."""
    return _Shelly(url, path, fetch)


def command_answer(arguments: Sequence[str], path: str) -> Answer:
    """A command that prints JSON, a number, or lines: then the first number behind the text `path`."""

    def answer() -> Decimal:
        raw = _output(arguments)
        if path and raw.lstrip()[:1] in (b"{", b"["):
            return number_of(at_path(parse_json(raw), path))
        return line_number(raw.decode("utf-8", errors="replace"), path)

    return answer


def _output(arguments: Sequence[str]) -> bytes:
    """What a command prints. Raises MeterError."""
    name = arguments[0]
    try:
        process = subprocess.Popen(
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise MeterError(f"the meter's command {name!r} cannot be run: {said}", hint="look at meter_command") from None
    assert process.stdout is not None
    late, output = threading.Event(), process.stdout
    killer = threading.Timer(ANSWER_S, _kill, (process, late))
    killer.start()
    try:
        raw = output.read(MAX_ANSWER + 1)
        if len(raw) > MAX_ANSWER:
            _kill(process, threading.Event())
            raise MeterError(f"the meter's command {name!r} prints more than {MAX_ANSWER >> 10} KiB")
        status = process.wait()
    finally:
        killer.cancel()
        output.close()
        process.wait()
    if late.is_set():
        raise MeterError(f"the meter's command {name!r} took more than {ANSWER_S:g} s")
    if status != 0:
        raise MeterError(f"the meter's command {name!r} ended with status {status}", hint="run it yourself")
    return raw


def _kill(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    """The command, and whatever it has started."""
    late.set()
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
