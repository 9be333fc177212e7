"""Drafted tokens of one session as they travel: hidden at its first leg, shown at its last."""

from __future__ import annotations

from node.pipeline.serving.rows import Arrived
from protocol.drafting.drafts import Launch, Mask
from protocol.session.frames import NO_SECRET

__all__ = ["Masked"]


class Masked:
    """One session's mask. `route` is the number of reroutes in force."""

    def __init__(self, session: bytes) -> None:
        self._session = session
        self._mask = Mask(NO_SECRET, session)
        self._flights = 0
        """Launches with drafts so far, at the first leg."""

    def share(self, secret: bytes) -> None:
        """The client has said what hides the tokens."""
        self._mask = Mask(secret, self._session)

    def hide(self, launch: Launch, *, route: int) -> tuple[int, bytes]:
        """The number of a launch and the ids that it guesses, hidden; 0 and nothing for one without guesses."""
        if not launch.guesses:
            return 0, b""
        self._flights += 1
        at = launch.position + launch.given
        return self._flights, self._mask.hide(launch.guesses, route=route, flight=self._flights, position=at)

    def show(self, rows: Arrived, *, route: int) -> tuple[int, ...]:
        """The ids that came with rows. Raises MalformedError for what is no number of ids."""
        return self._mask.show(rows.drafts, route=route, flight=rows.flight, position=rows.first_draft)
