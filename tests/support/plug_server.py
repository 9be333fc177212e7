"""Plugs that measure power, as their makers document them, on a local HTTP server; and what answers in their place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web


@dataclass
class Plug:
    """What it shows, and where."""

    watts: float = 120.5
    url: str = ""
    asked: int = 0
    refuses: bool = False


def _plus_plug(plug: Plug) -> dict[str, object]:
    """Shelly.GetStatus of a Plus Plug S: a method of the RPC of the second generation and later."""
    return {
        "ble": {},
        "cloud": {"connected": False},
        "mqtt": {"connected": False},
        "switch:0": {
            "id": 0,
            "source": "init",
            "output": True,
            "apower": plug.watts,
            "voltage": 231.2,
            "current": 0.53,
            "aenergy": {"total": 11.679, "by_minute": [0.0, 1998.3, 2001.1], "minute_ts": 1_654_511_972},
            "temperature": {"tC": 33.7, "tF": 92.6},
        },
        "sys": {"mac": "A8032ABE54DC", "uptime": 11_081, "ram_size": 246_016},
        "wifi": {"sta_ip": "10.33.53.21", "status": "got ip", "rssi": -64},
    }


def _first_plug(plug: Plug) -> dict[str, object]:
    """/status of a Plug S of the first generation."""
    return {
        "wifi_sta": {"connected": True, "ip": "10.33.53.22", "rssi": -61},
        "relays": [{"ison": True, "has_timer": False, "overpower": False}],
        "meters": [
            {"power": plug.watts, "overpower": 0.0, "is_valid": True, "timestamp": 1_654_511_972,
             "counters": [59.8, 60.1, 60.0], "total": 104_551},
        ],
        "uptime": 5_000,
    }  # fmt: skip


def _energy_meter(plug: Plug) -> dict[str, object]:
    """Shelly.GetStatus of a Pro EM: two clamps."""
    clamp = {"id": 0, "current": 4.0, "voltage": 236.1, "act_power": 951.2, "aprt_power": 951.9, "pf": 1, "freq": 50}
    return {
        "em1:0": clamp,
        "em1:1": {**clamp, "id": 1, "act_power": plug.watts},
        "em1data:0": {"total_act_energy": 1.0},
    }


def _tasmota(plug: Plug) -> dict[str, object]:
    """Status 8 of a plug with Tasmota."""
    return {
        "StatusSNS": {
            "Time": "2026-01-11T21:57:38",
            "ENERGY": {
                "TotalStartTime": "2025-10-21T22:15:00",
                "Total": 3.705,
                "Yesterday": 0.028,
                "Today": 0.026,
                "Power": plug.watts,
                "ApparentPower": 125,
                "Factor": 0.96,
                "Voltage": 233,
                "Current": 0.54,
            },
        }
    }


@asynccontextmanager
async def plugs(plug: Plug) -> AsyncIterator[Plug]:
    """Serve it under ``/plus``, ``/first``, ``/clamps``, ``/tasmota``, ``/json``, and what is wrong under ``/bad``."""
    app = web.Application()

    def shows(path: str, answer: object) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            plug.asked += 1
            if plug.refuses:
                raise web.HTTPServiceUnavailable
            if request.query_string not in ("", "cmnd=Status%208", "cmnd=Status 8"):
                raise web.HTTPNotFound
            return web.json_response(answer(plug) if callable(answer) else answer)

        app.router.add_get(path, handler)

    shows("/plus/shelly", {"id": "shellyplusplugs-a8032abe54dc", "gen": 2, "app": "PlugS", "auth_en": False})
    shows("/plus/rpc/Shelly.GetStatus", _plus_plug)
    shows("/clamps/shelly", {"id": "shellyproem50-a8032abe54dd", "gen": 2, "app": "ProEM"})
    shows("/clamps/rpc/Shelly.GetStatus", _energy_meter)
    shows("/first/shelly", {"type": "SHPLG-S", "mac": "5ECF7F1632E8", "auth": False, "num_meters": 1})
    shows("/first/status", _first_plug)
    shows("/locked/cm", {"WARNING": "Need user=<username>&password=<password>"})
    shows("/tasmota/cm", _tasmota)
    shows("/json", lambda plug: {"phases": [{"w": plug.watts}, {"w": "30"}], "kWh": 12.345, "no": None, "yes": True})
    _add_bad(app)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        plug.url = f"http://{host}:{port}"
        yield plug
    finally:
        await runner.cleanup()


def _add_bad(app: web.Application) -> None:
    texts = {
        "nan": '{"w": NaN}', "infinite": '{"w": -Infinity}', "html": "<!doctype html><html>", "empty": "",
        "cut": '{"w": 12', "deep": "[" * 60_000, "digits": '{"w": ' + "9" * 5_000 + "}",
        "exponent": '{"w": 1e999999999}', "large": '{"w": 1e29}',
        "negative": '{"w": -250.5}', "tiny": '{"w": 0.0004}', "kilo": '{"w": 120500}', "list": '{"w": [1]}',
    }  # fmt: skip

    async def text(request: web.Request) -> web.Response:
        return web.Response(text=texts[request.match_info["kind"]], content_type="application/json")

    async def huge(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b" " * (1 << 20))
        return response

    async def elsewhere(request: web.Request) -> web.Response:
        raise web.HTTPFound("/json")

    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async def drips(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.1)

    app.router.add_get("/bad/huge", huge)
    app.router.add_get("/bad/elsewhere", elsewhere)
    app.router.add_get("/bad/slow", slow)
    app.router.add_get("/bad/drips", drips)
    app.router.add_get("/bad/{kind}", text)
