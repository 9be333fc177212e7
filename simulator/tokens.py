"""A network's own token: what is minted, burned and what it is worth, day by day (X17). Amounts in millionths of one.

Two closures of its price are published. *Burn equals mint*: the price is such that the day's fees burn just what the
day mints. *Equation of exchange*: the supply is what all users hold together, each what it burns in its holding time.
"""

from __future__ import annotations

import dataclasses

from protocol.errors import ConfigurationError, RuleError
from protocol.units import MICRO
from simulator.exact import LARGEST
from simulator.tables import Token

__all__ = ["TokenDay", "Treasury", "emission", "token_price"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TokenDay:
    """One day of a token."""

    minted: int
    """Millionths of a token."""
    burned: int
    price: int
    """Millionths of a micro-unit for a token."""
    reward: int
    """Micro-units that what is minted is worth."""
    fees: int
    """Micro-units that bought what is burned."""
    kept: int
    """Micro-units of fees that stay in the treasury."""


def emission(token: Token, day: int) -> int:
    """Millionths of a token that are minted on a day: halved, rounded down, after each `halving_days`."""
    if day < 0:
        return token.emission_per_day
    return token.emission_per_day >> (day // token.halving_days) if token.halving_days else token.emission_per_day


def token_price(token: Token, *, fees: int, minted: int, supply: int, given: int) -> int:
    """Millionths of a micro-unit for a token.

    Args:
        fees: micro-units that buy tokens to burn in the day.
        minted: millionths of a token in the day.
        supply: millionths of a token that exist.
        given: micro-units that it costs with `closure = "given"`.

    Raises ConfigurationError: it outgrows 62 bits.
    """
    if token.closure == "burn-equals-mint":
        price = fees * MICRO * MICRO // minted if minted else 0
    elif token.closure == "equation-of-exchange":
        price = fees * token.holding_days * MICRO // supply if supply else 0
    else:
        price = given * MICRO
    if price >= LARGEST:
        raise ConfigurationError("a token's price outgrows 62-bit integers", hint="mint more, or begin with more")
    return price


class Treasury:
    """Holds the count of tokens."""

    def __init__(self, token: Token) -> None:
        self._token = token
        self.supply = token.supply
        self.minted = 0
        self.burned = 0

    def day(self, day: int, *, fees: int, given: int) -> TokenDay:
        """Mint, price and burn for one day. Raises RuleError where tokens are lost or made."""
        minted, kept = emission(self._token, day), fees - fees * self._token.burn_share // MICRO
        fees -= kept
        price = token_price(self._token, fees=fees, minted=minted, supply=self.supply, given=given)
        if self._token.closure == "burn-equals-mint":
            burned = minted if fees else 0
        else:
            burned = min(fees * MICRO * MICRO // price, self.supply + minted) if price else 0
        self.supply += minted - burned
        self.minted += minted
        self.burned += burned
        if self.supply != self._token.supply + self.minted - self.burned or self.supply < 0:
            raise RuleError("tokens were lost or made", code="conservation")
        reward = minted * price // MICRO**2
        if reward >= LARGEST >> 8:
            raise ConfigurationError(
                "what is minted in a day outgrows 62-bit integers", hint="mint less, or price it lower"
            )
        return TokenDay(minted=minted, burned=burned, price=price, reward=reward, fees=fees, kept=kept)
