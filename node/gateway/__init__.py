"""A front door that speaks OpenAI's API: HTTP in, what is wanted of a market out. It knows no market.

Reading order: `refusals`, `reading`, `limits`, `tools`, `wanted`, `saying`, `answering` (what a market is here),
`replies`, `keys`, `entrance`, `answers`, `shelf`, `batches`, `service`. `node.app.daemons.gateway` joins it with a
client.
"""

from __future__ import annotations

from node.gateway.answering import HERE, Answer, Costs, Market, OfferedModel
from node.gateway.limits import Limits
from node.gateway.saying import Likelihood, Piece, Said
from node.gateway.service import Service, ServiceSettings, serving
from node.gateway.tools import ToolStyle, style_of
from node.gateway.wanted import Turn, Wanted

__all__ = [
    "HERE",
    "Answer",
    "Costs",
    "Likelihood",
    "Limits",
    "Market",
    "OfferedModel",
    "Piece",
    "Said",
    "Service",
    "ServiceSettings",
    "ToolStyle",
    "Turn",
    "Wanted",
    "serving",
    "style_of",
]
