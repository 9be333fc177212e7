"""How long requests wait in a fluid epoch: a stated correction for what flows do not show (X13).

The machines that a class may use are taken as one queue with as many servers as they have slots. Requests arrive at
random. The chance to wait is Erlang's; beyond a hundred servers Halfin's and Whitt's limit of it. The mean wait is that
of exponential service times, scaled for how much they vary; the event engine measures how far all this is off.
"""

from __future__ import annotations

import math

import numpy as np

from simulator.draws import Floats

__all__ = ["chance_to_wait", "mean_wait_s", "share_waiting_longer"]

_MOST_LOAD = 0.9999
_EXACT = 100
_erf = np.vectorize(math.erf, otypes=[float])


def chance_to_wait(servers: Floats, load: Floats) -> Floats:
    """The chance that a request finds all servers busy.

    Args:
        servers: requests that are served at once, rounded down; at least 1 counts.
        load: mean share of them that is busy, 0 to 1; taken as 0.9999 at most.
    """
    count, load = np.maximum(np.floor(servers), 1), np.clip(load, 0, _MOST_LOAD)
    beta = np.minimum((1 - load) * np.sqrt(count), 30.0)
    many = 1 / (1 + beta * (1 + _erf(beta / math.sqrt(2))) / 2 * math.sqrt(2 * math.pi) * np.exp(beta * beta / 2))
    if (count > _EXACT).all():
        return np.asarray(many)
    few = np.minimum(count, _EXACT)
    lost = np.ones_like(load)  # Erlang's B, one server after the other
    for k in range(1, int(few.max()) + 1):
        lost = np.where(k <= few, few * load * lost / (k + few * load * lost), lost)
    return np.asarray(np.where(count > _EXACT, many, lost / (1 - load * (1 - lost))))


def mean_wait_s(
    servers: Floats, load: Floats, service_s: Floats, *, variation: float = 0.0, chance: Floats | None = None
) -> Floats:
    """Seconds that a request waits on average.

    Args:
        servers, load: as of `chance_to_wait`.
        service_s: seconds that one request takes a server.
        variation: squared coefficient of variation of service times: 0 fixed, 1 exponential.
        chance: that of waiting at all, where it is known already.
    """
    free = np.maximum(np.floor(servers), 1) * (1 - np.clip(load, 0, _MOST_LOAD))
    waits = chance_to_wait(servers, load) if chance is None else chance
    return np.asarray((1 + variation) / 2 * waits / free * service_s)


def share_waiting_longer(chance: Floats, mean_s: Floats, limit_s: float) -> Floats:
    """The share of requests that wait for longer than `limit_s`: waits are exponential for those who wait."""
    of_those = np.maximum(mean_s, 1e-12) / np.maximum(chance, 1e-300)
    return np.asarray(chance * np.exp(-limit_s / of_those))
