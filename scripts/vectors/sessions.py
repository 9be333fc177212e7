"""Write tests/vectors/sessions.json: routes that change, sessions that continue, several windows ahead, as bundles.

    PYTHONPATH=.:tests/support python -m scripts.vectors.sessions

With ``--check`` it only compares. Each bundle stands beside neighbours that break one clause: what they change in its
JSON. Rows are random numbers from a fixed seed, so nothing in them can be audited.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agreed_job import agree
from played_job import Play

from protocol.receipts.bundle import Bundle
from protocol.receipts.bundle_file import dump_bundle
from protocol.session.messages import Receipt
from scripts.vectors.kept import keep

__all__ = ["FILE", "document"]

FILE = Path(__file__).resolve().parents[2] / "tests" / "vectors" / "sessions.json"
SMALL = {"prompt": 5, "most": 6, "chunk": 3, "window": 2}
TAKES_OVER = ((0, (0, 2)), (3, (2, 4)), (2, (4, 6)))
Json = dict[str, Any]


def document() -> Json:
    """Everything in the file."""
    return {"cases": [_rerouted(), _continued(), _ahead()]}


def _case(name: str, about: str, valid: Bundle, invalid: dict[str, tuple[str, Bundle]], **more: Any) -> Json:
    """Args: invalid: by name, the clause that it breaks, and the bundle."""
    text = dump_bundle(valid)
    said = json.loads(text)
    found = []
    for wrong, (clause, bundle) in invalid.items():
        other = json.loads(dump_bundle(bundle))
        edits = {key: value for key, value in other.items() if value != said[key]}
        found.append({"name": wrong, "clause": clause, "edits": edits})
    return {"name": name, "about": about, "bundle": text, "invalid": found, **more}


def _rerouted() -> Json:
    """Leg 1 dies when five positions are proven; a standby for all blocks serves two of them."""

    def played(alter: Callable[[Receipt, bytes], tuple[Receipt, bytes]] = lambda *said: said, *, say: int = 5) -> Play:
        play = Play(agree(standbys=((0, 6),), **SMALL), alter)
        play.window()
        play.window()
        play.reroute(*TAKES_OVER, position=say)
        return play

    def one_too_few(receipt: Receipt, shown: bytes) -> tuple[Receipt, bytes]:
        return receipt.replace(window=receipt.window - 1) if receipt.window > 2 else receipt, shown

    def paid(leg: int, more: int) -> Bundle:
        play = played().run()
        amounts = [each + (more if at == leg else 0) for at, each in enumerate(play.amounts(10))]
        return play.bundle(play.voucher(amounts=tuple(amounts)))

    whole = played().run()
    return _case(
        "a standby takes over",
        "leg 1 dies after five positions; leg 3 computes them again and serves what is left",
        whole.bundle(),
        {
            "the reroute goes back behind what all have signed for": ("N7", played(say=3).run().bundle()),
            "the next window has an index that is void": ("R8", played(one_too_few).run().bundle()),
            "the leg that died is paid for what came after": ("R9", paid(1, 1)),
            "the standby is paid for blocks that it did not serve": ("R9", paid(3, 10)),
            "the standby is not paid for what it had to compute again": ("R9", paid(3, -1)),
        },
        amounts=list(whole.amounts(10)),
        indices=[0, 1, 4, 5, 6],
    )


def _continued() -> Json:
    """Of nine positions leg 0 holds nine, leg 1 six, leg 2 nine; leg 0 can send again what it sent."""
    before = Play(agree(**SMALL)).run()

    def played(**changes: Any) -> Play:
        said: Json = {"cached": {0: 9, 1: 6, 2: 9}, "replays": (0, 1)}
        agreed = agree(prompt=12, most=4, chunk=3, window=2, continues=9, continued=before.agreed.id, salt=1,
                       **(said | changes))  # fmt: skip
        return Play(agreed, tokens=[*before.tokens[:10], 21, 22])

    def paid(leg: int, more: int) -> Bundle:
        play = played().run()
        amounts = [each + (more if at == leg else 0) for at, each in enumerate(play.amounts(15))]
        return play.bundle(play.voucher(amounts=tuple(amounts)))

    def saying(**changes: Any) -> Bundle:
        """The legs accepted something else than they then served by."""
        play, other = played(), played(**changes)
        play.agreed.acceptances = other.agreed.acceptances
        return play.run().bundle()

    whole = played().run()
    return _case(
        "a session that continues another",
        "legs 0 and 2 hold the nine positions of the session before, leg 1 six of them; leg 0 sends the others again",
        whole.bundle(),
        {
            "nobody said that anything was held": ("R5", saying(cached={})),
            "leg 0 cannot send again, so it computes again": ("R9", saying(replays=())),
            "what was held is paid as if it were computed": ("R9", paid(0, 5)),
            "what was computed again is paid as if it were held": ("R9", paid(1, -3)),
        },
        before=dump_bundle(before.bundle()),
        base=9,
        starts=list(whole.agreed.starts),
        amounts=list(whole.amounts(15)),
    )


def _ahead() -> Json:
    def played(lag: int) -> Play:
        return Play(agree(ahead=3, **(SMALL | {"prompt": 9, "chunk": 2})), lag=lag)

    return _case(
        "three windows ahead",
        "sketches come two windows later than they could; the closing receipts show those of three windows",
        played(2).run().bundle(),
        {"sketches that come three windows later than they could": ("R8", played(3).run().bundle())},
    )


def main() -> int:
    return keep(FILE, document())


if __name__ == "__main__":
    sys.exit(main())
