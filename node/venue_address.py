"""Where a settlement contract is reached, in one line of text."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from protocol.chain.contract import Contract
from protocol.errors import InvalidError, MalformedError

__all__ = ["VenueAddress", "is_venue", "parse_venue", "shown_url"]


@dataclass(frozen=True, slots=True)
class VenueAddress:
    """A settlement contract and the node through which it is reached."""

    contract: Contract
    url: str
    """Of the node; it may hold a secret, such as a provider's key: for people there is `shown_url`."""

    def __str__(self) -> str:
        return f"{self.contract}@{self.url}"


def is_venue(text: str) -> bool:
    """Whether a text is meant as a contract's address, well written or not."""
    return text.startswith("evm:")


def parse_venue(text: str) -> VenueAddress:
    """Read ``evm:<chain id>:<contract>@<rpc url>``. Raises InvalidError."""
    place, at, url = text.partition("@")
    try:
        known = url.startswith(("http://", "https://")) and bool(urlsplit(url).hostname)
        if not at or not known:
            raise MalformedError("no node is named")
        return VenueAddress(Contract.parse(place), url)
    except (MalformedError, ValueError):
        raise InvalidError(
            f"{text!r} names no settlement contract",
            hint="write evm:CHAIN_ID:CONTRACT@URL, as `joule contract deploy` prints it",
        ) from None


def shown_url(url: str) -> str:
    """A node's URL without what may be secret in it: user, path and query."""
    parts = urlsplit(url)
    port = "" if parts.port is None else f":{parts.port}"
    return f"{parts.scheme}://{parts.hostname}{port}"
