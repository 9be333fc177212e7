"""Who served, on what and at which rates: read from receipts, which prove it, and from offers, which say it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from protocol.errors import ConfigurationError, PeerError
from protocol.identity.ids import Address
from protocol.identity.signing import address_of_public_key
from protocol.market.offer import Offer
from protocol.receipts.bundle import Verified, verify_bundle
from protocol.receipts.bundle_file import MAX_BUNDLE_BYTES, load_bundle
from protocol.session.messages import session_id

__all__ = ["Machine", "ServedLeg", "ServedSession", "machines_of_offers", "read_offers", "read_receipts"]

_MAX_OFFERS_BYTES = 64 << 20
_MOST_NUMBER = 10**15


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A provider's machine, as its offer describes it; figures are for its whole span."""

    model: str
    """Of the model, in hex."""
    span: tuple[int, int]
    """First block, and one past the last."""
    blocks: int
    """Of the whole model."""
    ask_in: int
    """Micro-units per million prompt tokens."""
    ask_out: int
    """Micro-units per million generated tokens."""
    opening: int
    """Micro-units for a session, whatever its size."""
    prompt_us: int
    """Of one prompt token."""
    position_us: int
    """Of one generated token, in a session alone."""
    sessions: int
    """Places that were free, at least 1."""
    place: str
    """ISO 3166."""
    millijoules: tuple[int, int] = (0, 0)
    """Of a prompt token and of a generated one, at the machine; 0 where it does not know."""
    tariff: int = 0
    """Micro-units per kWh."""
    pue: int = 1000
    """Thousandths."""
    carbon: int = 0
    """Grams of CO2 per kWh."""


@dataclasses.dataclass(frozen=True, slots=True)
class ServedLeg:
    """What a receipt proves of one leg of a route."""

    provider: bytes
    used: int
    """Blocks that it ran, of `held`."""
    held: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServedSession:
    """What a receipt proves of a session."""

    model: str
    tokens_in: int
    tokens_out: int
    legs: tuple[ServedLeg, ...]
    machines: dict[bytes, Machine]
    """By address of the provider."""


def read_receipts(folder: Path, verifier_key: str) -> dict[bytes, ServedSession]:
    """By session id, what the receipts in a folder prove; each is verified.

    Raises:
        ConfigurationError: a file that is no receipt, does not verify, or is of another ledger.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is not a folder", hint="give the one where `joule run` keeps receipts")
    return dict(_receipt(path, verifier_key) for path in sorted(folder.rglob("*.json")))


def _receipt(path: Path, verifier_key: str) -> tuple[bytes, ServedSession]:
    try:
        with path.open("rb") as file:
            bundle = load_bundle(file.read(MAX_BUNDLE_BYTES + 1))
        verified = verify_bundle(bundle)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except PeerError as error:
        hint = "`joule receipt verify` says more; move it elsewhere to go on without it"
        raise ConfigurationError(f"{path} is no receipt that holds: {error.message}", hint=hint) from error
    if bundle.verifier_key != verifier_key:
        raise ConfigurationError(f"{path} is of another ledger: {bundle.verifier_key}", hint="keep receipts by ledger")
    return session_id(verified.session), _served(verified)


def _served(verified: Verified) -> ServedSession:
    terms, legs, machines = verified.terms, [], {}
    for leg, offer in zip(terms.legs, verified.offers, strict=True):
        address = address_of_public_key(leg.public_key)
        legs.append(ServedLeg(address, len(leg.span), len(offer.span)))
        machines[bytes(address)] = _machine(offer)
    return ServedSession(
        model=terms.model.hex(),
        tokens_in=verified.tokens_in,
        tokens_out=verified.tokens_out,
        legs=tuple(legs),
        machines=machines,
    )


def _machine(offer: Offer) -> Machine:
    energy: dict[str, Any] = {}
    if offer.energy is not None:
        claim = offer.energy
        energy = {
            "millijoules": (claim.millijoules_in, claim.millijoules_out),
            "tariff": claim.tariff_micro_per_kwh,
            "pue": claim.pue_milli,
            "carbon": claim.carbon_g_per_kwh or 0,
        }
    return Machine(
        model=offer.model.hex(),
        span=(offer.span.start, offer.span.end),
        blocks=offer.blocks,
        ask_in=offer.rates.price_in,
        ask_out=offer.rates.price_out,
        opening=offer.rates.opening,
        prompt_us=offer.prompt_us,
        position_us=offer.position_us,
        sessions=max(1, offer.limits.sessions),
        place=offer.region or offer.jurisdiction,
        **energy,
    )


def read_offers(path: Path) -> list[Any]:
    """The list that `joule offers --json` prints. Raises ConfigurationError."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_OFFERS_BYTES + 1)
        found = json.loads(data) if len(data) <= _MAX_OFFERS_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}", hint="`joule offers --json` writes it") from error
    if not isinstance(found, list):
        raise ConfigurationError(f"{path} is not a list of offers", hint="`joule offers --json` writes it")
    return found


def machines_of_offers(path: Path) -> Iterator[tuple[bytes, Machine]]:
    """By address, the machines in what `joule offers --json` printed. Raises ConfigurationError."""
    for at, offer in enumerate(read_offers(path), 1):
        try:
            yield _of_json(offer)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"{path}: offer {at} lacks or misspells something: {error}", hint="`joule offers --json` writes it"
            ) from error


def _of_json(offer: Any) -> tuple[bytes, Machine]:
    address = bytes.fromhex(str(offer["provider"]).removeprefix("0x"))
    if len(address) != len(Address(bytes(20))):
        raise ValueError("provider is no address")
    claim = offer["energy"]
    energy: dict[str, Any] = {}
    if claim is not None:
        energy = {
            "millijoules": (_whole(claim, "millijoules_in"), _whole(claim, "millijoules_out")),
            "tariff": _whole(claim, "tariff_micro_per_kwh"),
            "pue": _whole(claim, "pue_milli"),
            "carbon": 0 if claim["carbon_g_per_kwh"] is None else _whole(claim, "carbon_g_per_kwh"),
        }
    span = offer["span"]
    return address, Machine(
        model=str(offer["model"]),
        span=(_whole(span, "start"), _whole(span, "end")),
        blocks=_whole(offer, "blocks"),
        ask_in=_whole(offer["rates"], "price_in"),
        ask_out=_whole(offer["rates"], "price_out"),
        opening=_whole(offer["rates"], "opening"),
        prompt_us=max(1, _whole(offer, "prompt_us")),
        position_us=max(1, _whole(offer, "position_us")),
        sessions=max(1, _whole(offer["limits"], "sessions")),
        place=str(offer["region"] or offer["jurisdiction"]),
        **energy,
    )


def _whole(table: Any, key: str) -> int:
    value = table[key]
    if type(value) is not int or not 0 <= value <= _MOST_NUMBER:
        raise ValueError(f"{key} is {value!r}")
    return value
