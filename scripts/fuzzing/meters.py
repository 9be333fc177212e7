"""What meters of energy say, and the files in which nodes keep what they counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

from node.energy.account import Figures
from node.energy.live import Power, read_report, report_of
from node.energy.shared import read_book
from node.energy.values import ENERGY_UNITS, line_number, scaled
from node.energy.wall import Answer, http_answer, shelly_answer, tasmota_answer
from node.json_values import plain
from protocol.energy.shared_counter import note
from protocol.errors import LocalError, MeterError
from protocol.market.offer import Provenance
from scripts.fuzzing.files import in_file
from scripts.fuzzing.mutators import lines, raw, several
from scripts.fuzzing.target import Mutator, Target
from scripts.fuzzing.trees import json_tree

__all__ = ["targets"]

_JSON: Mutator = several(json_tree(), json_tree(), raw)
_TEXT: Mutator = several(lines, raw)
_PLUS = {"gen": 2, "switch:0": {"id": 0, "apower": 120.5, "aenergy": {"total": 11.679}}, "sys": {"uptime": 5}}
_FIRST = {
    "type": "SHPLG-S",
    "meters": [{"power": 59.8, "is_valid": True, "total": 104_551}],
    "relays": [{"ison": True}],
}
_TASMOTA = {"StatusSNS": {"Time": "2026-01-11T21:57:38", "ENERGY": {"Total": 3.705, "Power": 120}}}


def _answered(answer: Callable[[str, str, Callable[[str], bytes]], Answer], path: str) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        _hold(answer("http://meter", path, lambda _url: data)())

    return run


def _line(data: bytes) -> None:
    text = data.decode("utf-8", errors="replace")
    _hold(line_number(text, "reading" if "reading" in text else ""))


def _hold(number: Decimal) -> None:
    for unit in ("W", *ENERGY_UNITS):
        value, step = scaled(number, unit)
        assert value >= 0
        assert step > 0


def _report(data: bytes) -> None:
    with in_file(data) as path:
        found = read_report(path)
        assert found is not None
        path.write_text(json.dumps(plain(found)))
        assert read_report(path) == found


def _book(data: bytes) -> None:
    with in_file(data) as path:
        before = read_book(path)
    after = note(before, at_us=5_000_000, value=900, is_power=False, who="1-1", work_ns=7)
    assert "1-1" in after.parties


def _written_book() -> bytes:
    book = note(None, at_us=1_000_000, value=500, is_power=False, who="1-1", work_ns=3)
    return json.dumps({"counter": "the plug", **plain(book)}).encode()


def _written_report() -> bytes:
    figures = Figures(source=Provenance.WALL, meter="the plug", power_uw=125_000_000, out_uj=10_800_000)
    power = Power(micro_per_kwh=100_000, pue_milli=1_000)
    return json.dumps(plain(report_of(figures, power, at=5, since=1, next_s=5, fault=None))).encode()


def _said(*values: object) -> Callable[[], list[bytes]]:
    return lambda: [json.dumps(value).encode() for value in values]


def targets() -> list[Target]:
    """Readers of what meters say."""
    meter = (MeterError,)
    shelly, tasmota = _answered(shelly_answer, ""), _answered(tasmota_answer, "")
    http = _answered(http_answer, "StatusSNS.ENERGY.Total + StatusSNS.ENERGY.Power")
    ipmi = b"\n    Instantaneous power reading:      220 Watts\n    Minimum:   198 Watts\n"
    return [
        Target(name="meter-shelly", seeds=_said(_PLUS, _FIRST), run=shelly, errors=meter, mutators=(_JSON,)),
        Target(name="meter-tasmota", seeds=_said(_TASMOTA), run=tasmota, errors=meter, mutators=(_JSON,)),
        Target(name="meter-http", seeds=_said(_TASMOTA), run=http, errors=meter, mutators=(_JSON,)),
        Target(name="meter-command", seeds=lambda: [ipmi, b"220"], run=_line, errors=meter, mutators=(_TEXT,)),
        Target(
            name="energy-report",
            seeds=lambda: [_written_report()],
            run=_report,
            errors=(LocalError,),
            mutators=(_JSON,),
            short=500,
        ),
        Target(
            name="counter-book", seeds=lambda: [_written_book()], run=_book, errors=(), mutators=(_JSON,), short=500
        ),
    ]
