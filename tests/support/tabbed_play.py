"""A job in memory as its client counts it: a `Play`, and a `Tab` that gets its tokens and receipts."""

from __future__ import annotations

import copy
from typing import Any

from agreed_job import Agreed
from played_job import Play

from protocol.session.frames import SampledToken
from protocol.session.order import check_acceptance
from protocol.session.tab import Tab

__all__ = ["TabbedPlay", "copied"]


def copied(play: Play) -> Play:
    """It goes on by itself; what was agreed is shared."""
    return copy.deepcopy(play, {id(play.agreed): play.agreed})


class TabbedPlay:
    """A play, and the client's tab of it."""

    def __init__(self, agreed: Agreed, **changes: Any) -> None:
        self.agreed = agreed
        self.play = Play(agreed, **changes)
        acceptances = {
            leg: check_acceptance(sealed, agreed.session, agreed.terms, leg)
            for leg, sealed in agreed.acceptances.items()
        }
        self.tab = Tab(
            agreed.session,
            agreed.terms,
            agreed.ledger.domain,
            acceptances=acceptances,
            chain=agreed.client_chain,
            prompt=self.play.tokens,
            stop_tokens=(0,),
            vocabulary=1 << 24,
        )

    def token(self, position: int, **changes: int) -> SampledToken:
        values = {"position": position, "token": self.play.tokens[position], "route": len(self.tab.reroutes)}
        return SampledToken(session=self.agreed.id, **(values | changes))

    def window(self) -> None:
        """The next window, its tokens and its receipts."""
        self.play.window()
        while len(self.tab.tokens) <= self.play.position >= self.agreed.plan.prompt:
            assert self.tab.take_token(self.token(len(self.tab.tokens)))
        self.receipts()

    def receipts(self) -> None:
        for signed, shown in self.play.rows[-1]:
            self.tab.take_receipt(signed.receipt.leg, signed, shown)

    def in_vain(self) -> Play:
        """What the next window would have been on this route."""
        other = copied(self.play)
        other.window()
        return other

    def reroute(self, *route: tuple[int, tuple[int, int]]) -> None:
        self.play.reroute(*route)
        self.tab.reroute(self.play.opened_reroutes[-1], self.play.reroutes[-1])

    def finish(self) -> None:
        while not self.tab.ended:
            self.window()
        self.play.close()
        self.receipts()
