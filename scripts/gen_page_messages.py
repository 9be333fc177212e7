"""Write what the page's receipt verifier reads messages by, from their declarations; --check only compares.

Layouts, typed data and tables are generated; the clauses are written by hand in the same folder, from docs/spec.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from protocol.chain.chain_evidence import ChainProof
from protocol.encoding.codec import Message, MessageShape, shapes
from protocol.encoding.fields import (
    BoolShape,
    BytesShape,
    EnumShape,
    ListShape,
    OptionalShape,
    Shape,
    TextShape,
    UintShape,
)
from protocol.encoding.text import REFUSED
from protocol.energy.power import DEVICE_W, JOB_SLACK_US, MACHINE_W, MOST_DEVICES, TOKEN_SLACK_US, TOKEN_TIMES
from protocol.geography.blocs import BLOCS
from protocol.geography.country_discs import DISCS
from protocol.geography.jurisdictions import COUNTRIES
from protocol.identity.eip712 import encode_type
from protocol.identity.ids import ModelManifest
from protocol.identity.signing import Envelope
from protocol.market.offer import Evidence, Offer, Statement
from protocol.policy.denials import Denials
from protocol.policy.policy import TIME_PER_TOKEN_US
from protocol.policy.trust import Trust
from protocol.receipts.bundle_law import RoundTrips
from protocol.receipts.bundle_text import Transcript
from protocol.session.fingerprint import SKETCH_BYTES
from protocol.session.messages import Session, SignedReceipt, SignedVoucher
from protocol.session.order import Acceptance
from protocol.session.terms import Reroute, Terms
from protocol.settlement.evidence import LogProof
from protocol.settlement.operations import ACTIONS, LogEntry

FILE = Path(__file__).resolve().parents[1] / "node" / "page" / "assets" / "verify" / "messages.mjs"
READ: tuple[type[Message], ...] = (
    ModelManifest, Terms, Session, Offer, Statement, Acceptance, Reroute, SignedReceipt, SignedVoucher, Trust, Denials,
    RoundTrips, Transcript, LogProof, ChainProof, LogEntry, Envelope, *ACTIONS,
)  # fmt: skip


def layout(shape: Shape, wanted: list[type[Message]]) -> list[Any]:
    """One field's shape: what it is, then its bounds. Numbers that JavaScript cannot hold exactly are text."""
    match shape:
        case UintShape():
            return ["uint", shape.uint.bits, str(shape.uint.limit)]
        case BytesShape():
            return ["bytes", shape.size.low, shape.size.low if shape.size.high is None else shape.size.high]
        case TextShape():
            return ["text", shape.size.high]
        case BoolShape():
            return ["bool"]
        case EnumShape():
            return ["enum", *map(str, shape.enum)]
        case OptionalShape():
            return ["maybe", layout(shape.inner, wanted)]
        case ListShape():
            return ["list", layout(shape.inner, wanted), shape.count.low, shape.count.high]
        case MessageShape():
            if shape.cls not in wanted:
                wanted.append(shape.cls)
            return ["message", shape.cls.__name__]
    raise TypeError(f"no layout for {shape}")


def messages() -> dict[str, Any]:
    """Every message that a receipt may hold, by class name."""
    wanted, found = list(READ), dict[str, Any]()
    for cls in wanted:  # it grows while messages are found inside of others
        fields = [[name, layout(shape, wanted)] for name, shape in shapes(cls)]
        found[cls.__name__] = {"kind": cls.kind, "fields": fields}
        with contextlib.suppress(TypeError):  # it has a field that may be nil, and is never typed data
            found[cls.__name__]["typed"] = encode_type(cls)
    return found


def page() -> str:
    """The whole module."""
    exported = {
        "MESSAGES": messages(),
        "ACTIONS": [each.__name__ for each in ACTIONS],
        "REFUSED": REFUSED,
        "COUNTRIES": sorted(COUNTRIES),
        "BLOCS": {day: {name: sorted(each.members) for name, each in table.items()} for day, table in BLOCS.items()},
        "DISCS": {code: [[*each] for each in discs] for code, discs in DISCS.items()},
        "EVIDENCE": [str(each) for each in Evidence],
        "TIME_PER_TOKEN_US": {str(each): us for each, us in TIME_PER_TOKEN_US.items()},
        "DEVICE_W": DEVICE_W,
        "POWER": [MACHINE_W, MOST_DEVICES, TOKEN_TIMES, TOKEN_SLACK_US, JOB_SLACK_US],
        "SKETCH_BYTES": SKETCH_BYTES,
    }
    lines = ["// Written by scripts/gen_page_messages.py.", '"use strict";', ""]
    for name, value in exported.items():
        if isinstance(value, dict) and name == "MESSAGES":
            rows = ",\n".join(f"  {json.dumps(key)}: {json.dumps(each)}" for key, each in value.items())
            lines.append(f"export const {name} = {{\n{rows},\n}};")
        else:
            lines.append(f"export const {name} = {json.dumps(value, separators=(',', ':'))};")
    return "\n".join(lines) + "\n"


def main() -> int:
    text = page()
    if FILE.exists() and FILE.read_text() == text:
        return 0
    if sys.argv[1:] == ["--check"]:
        print(f"{FILE.name} is out of date; run scripts/gen_page_messages.py")
        return 1
    FILE.write_text(text)
    print(f"wrote {FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
