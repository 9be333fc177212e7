"""What each leg of a route would see of a prompt and its answer, and how much of it could be told from rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from node.app.models.leaks import ModelLeaks
from node.engine.leaked import CutLeak
from protocol.identity.ids import Address, ModelManifest, checksum_address
from protocol.identity.signing import address_of_public_key
from protocol.routing.routes import Route, RouteLeg

__all__ = ["LegSees", "PrivacyTold", "privacy_of"]

Seen = Literal["token ids", "rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LegSees:
    """What one leg is handed."""

    provider: str
    """Its address."""
    blocks: str
    """``START:END``, the end not included."""
    trusted: bool
    """Whether it is one of `trusted_ends`."""
    prompt: Seen
    """How it has the prompt."""
    answer: Seen
    """How it has the answer."""
    cut: int | None
    """Blocks that its rows went through before; null where it is given token ids."""
    leaks: CutLeak | None
    """What attacks told from rows of that cut, or the last one before it that was looked at; null where it is given
    token ids, or nobody has measured the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyTold:
    """Who sees what under the policy as it is, on the route of now. Nothing was sent."""

    model: str
    """Its name."""
    root: str
    """What offers name it by, in hex."""
    trusted_ends: tuple[str, ...]
    """Addresses of those that alone may serve the first and the last blocks; empty where anybody may."""
    end_blocks: int
    """How many blocks at each end those are."""
    legs: tuple[LegSees, ...]
    """In order of their blocks."""
    told_tokens: int | None
    """Tokens that the attacks were to tell; null where nobody has measured the model."""
    chance_ppm: int | None
    """Share of these that is right where always the commonest token is said, in millionths; likewise."""


def privacy_of(
    manifest: ModelManifest,
    route: Route,
    leaks: ModelLeaks | None,
    *,
    trusted: Collection[Address],
    end_blocks: int,
) -> PrivacyTold:
    """What is to be said of a route.

    Args:
        leaks: what was measured of the model, if anything.
        trusted: who alone may serve the ends; empty for anybody.
    """
    last = len(route.legs) - 1
    return PrivacyTold(
        model=manifest.name,
        root=manifest.root.hex(),
        trusted_ends=tuple(map(checksum_address, trusted)),
        end_blocks=end_blocks,
        legs=tuple(_leg(leg, leaks, trusted, is_last=at == last) for at, leg in enumerate(route.legs)),
        told_tokens=None if leaks is None else leaks.told_tokens,
        chance_ppm=None if leaks is None else leaks.chance_ppm,
    )


def _leg(leg: RouteLeg, leaks: ModelLeaks | None, trusted: Collection[Address], *, is_last: bool) -> LegSees:
    address, cut = address_of_public_key(leg.offer.public_key), leg.span.start
    return LegSees(
        provider=checksum_address(address),
        blocks=str(leg.span),
        trusted=address in trusted,
        prompt="rows" if cut else "token ids",
        answer="token ids" if is_last or not cut else "rows",
        cut=cut or None,
        leaks=leaks.at(cut) if leaks is not None and cut else None,
    )
