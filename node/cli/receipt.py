"""`joule receipt`: look into a receipt, and verify it offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli.options import examples, json_option
from node.cli.output import money, print_facts, print_json
from protocol.errors import DishonestError, LocalError

if TYPE_CHECKING:
    from protocol.bundle import Bundle, Verified

file_argument = click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))


@click.group(epilog=examples("joule receipt verify story.json", "joule receipt show story.json"))
def receipt() -> None:
    """Receipts: the evidence of a paid job."""


def read_bundle(file: Path) -> Bundle:
    """The bundle in a file. Raises LocalError for a file that cannot be read, MalformedError for another one."""
    from protocol.bundle import load_bundle

    try:
        return load_bundle(file.read_bytes())
    except OSError as error:
        hint = "give the file that `joule run` wrote"
        raise LocalError(f"cannot read {file}: {error.strerror}", code="no-receipt", hint=hint) from None


@receipt.command(
    epilog=examples("joule receipt verify story.json", "joule receipt verify story.json --verifier-key VKEY")
)
@file_argument
@click.option("--verifier-key", metavar="VKEY", help="The ledger's key as you know it; the receipt must be from it.")
@json_option
def verify(file: Path, verifier_key: str | None, as_json: bool) -> None:
    """Verify a receipt without asking anyone: signatures, commitments, payment and its place in the ledger.

    It proves what the ledger with the named key took down. That this is the ledger you mean, --verifier-key makes sure.
    """
    from protocol.bundle import verify_bundle

    bundle = read_bundle(file)
    if verifier_key is not None and verifier_key != bundle.verifier_key:
        raise DishonestError(f"the receipt is from another ledger: {bundle.verifier_key}", code="other-ledger")
    verified = verify_bundle(bundle)
    if as_json:
        print_json({"verified": True, **_facts(bundle), **_proven(verified)})
        return
    print_facts(
        {
            "receipt": "verified offline: yes",
            "model": f"{bundle.manifest.name} ({bundle.manifest.root.hex()[:12]}...)",
            "tokens": f"{verified.tokens_in} in, {verified.tokens_out} out, in {verified.windows} windows",
            "paid": "  ".join(f"leg {leg}: ${money(amount)}" for leg, amount in enumerate(verified.amounts)),
            "energy": "  ".join(f"leg {leg}: {_joules(each)}" for leg, each in enumerate(verified.millijoules)),
            "refunded": "session still open" if verified.refunded is None else f"${money(verified.refunded)}",
            "ledger": f"{bundle.verifier_key}, {verified.checkpoint.size} entries",
            "proof": f"{verified.proof_bytes} bytes of inclusion proofs",
        }
    )


@receipt.command(epilog=examples("joule receipt show story.json"))
@file_argument
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show what a receipt says. This verifies nothing."""
    facts = _facts(read_bundle(file))
    if as_json:
        print_json(facts)
        return
    legs = facts.pop("legs")
    shown = {name.replace("_", " "): str(value) for name, value in facts.items()}
    for index, leg in enumerate(legs):
        prices = f"${money(leg['price_in'])} in, ${money(leg['price_out'])} out per 1M"
        shown[f"leg {index}"] = f"{leg['provider']}  blocks {leg['blocks']}  {prices}"
    print_facts(shown)
    click.echo("\nnot verified; for that: joule receipt verify FILE")


def _joules(millijoules: int | None) -> str:
    return "not measured" if millijoules is None else f"{millijoules / 1000:.3f} J"


def _facts(bundle: Bundle) -> dict[str, Any]:
    """What a bundle claims; sums in micro-units."""
    from protocol.ids import checksum_address
    from protocol.messages import session_id
    from protocol.order import JobOrder
    from protocol.signing import open_envelope

    order, _ = open_envelope(bundle.order, JobOrder)
    return {
        "session": session_id(order.session).hex(),
        "client": checksum_address(order.session.client),
        "model": bundle.manifest.name,
        "model_root": bundle.manifest.root.hex(),
        "verifier_key": bundle.verifier_key,
        "tokens_in": bundle.pay.voucher.tokens_in,
        "tokens_out": bundle.pay.voucher.tokens_out,
        "windows": len(bundle.windows),
        "opened_entry": bundle.opened.index,
        "settled_entry": bundle.settled.index,
        "closed_entry": None if bundle.closed is None else bundle.closed.index,
        "legs": [
            {
                "provider": checksum_address(leg.provider),
                "blocks": str(hop.span),
                "price_in": leg.price_in,
                "price_out": leg.price_out,
                "cap": leg.cap,
            }
            for leg, hop in zip(order.session.legs, order.hops, strict=False)
        ],
    }


def _proven(verified: Verified) -> dict[str, Any]:
    return {
        "amounts": list(verified.amounts),
        "millijoules": list(verified.millijoules),
        "refunded": verified.refunded,
        "checkpoint_size": verified.checkpoint.size,
        "checkpoint_root": verified.checkpoint.root.hex(),
        "proof_bytes": verified.proof_bytes,
    }
