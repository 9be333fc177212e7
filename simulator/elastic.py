"""Where demand and supply cross in an epoch when demand answers at once (X6): one product, one zone of law."""

from __future__ import annotations

import numpy as np

from protocol.units import MICRO, ceil_div
from simulator.clearing import MeritOrder
from simulator.demand import Classes, response
from simulator.exact import Ints

__all__ = ["asked_at", "crossing"]

_HALVINGS = 62


def asked_at(classes: Classes, potential: Ints, price: Ints) -> Ints:
    """(C, ...) requests that are asked for at a price (...), none of a class above its cap."""
    shape = (-1,) + (1,) * price.ndim
    everybody = np.broadcast_to(price, (len(classes.names), *price.shape))
    asked = potential * response(classes, np.maximum(everybody, 1)) // MICRO
    return np.where(everybody <= classes.price_cap.reshape(shape), asked, 0)


def crossing(classes: Classes, potential: Ints, merit: MeritOrder, left_us: Ints) -> tuple[Ints, Ints]:
    """What is asked for (C, E) at the price where supply meets it, and that price (E,), micro-units per million tokens.

    Where it lies between two asks, or above all, it is the highest at which all that those below it can serve is
    asked for.
    """
    epochs = np.arange(len(left_us))
    tokens = int(classes.tokens[0])
    rows = epochs[:, None]
    ask = ceil_div(merit.quote[rows, merit.order], tokens)
    upto = np.cumsum(left_us[rows, merit.order] // classes.busy_us[0][merit.order], axis=1)
    wanted = asked_at(classes, potential[:, :, None], ask).sum(axis=0)
    enough = upto >= wanted
    k = np.where(enough.any(axis=1), enough.argmax(axis=1), ask.shape[1])
    before = np.where(k > 0, upto[epochs, np.maximum(k - 1, 0)], 0)
    at_ask = np.minimum(k, ask.shape[1] - 1)
    flat = (k < ask.shape[1]) & (wanted[epochs, at_ask] >= before)
    price = np.where(flat, ask[epochs, at_ask], 0)
    low = np.where(k > 0, ask[epochs, np.maximum(k - 1, 0)], 0)
    high = np.where(k < ask.shape[1], ask[epochs, at_ask], int(classes.price_cap.max()) + 1)
    for _ in range(_HALVINGS):
        middle = (low + high) // 2
        more = asked_at(classes, potential, middle).sum(axis=0) >= before
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    price = np.where(flat, price, low)
    return asked_at(classes, potential, price), price
