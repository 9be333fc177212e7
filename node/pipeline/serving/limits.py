"""What a provider puts at risk."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ProviderLimits"]


@dataclass(slots=True, kw_only=True)
class ProviderLimits:
    """What a provider puts at risk. Its operator may change it while the node runs."""

    max_sessions: int = 64
    """Jobs at once."""
    max_window: int = 64
    """Generated tokens in one window."""
    max_chunk: int = 512
    """Prompt tokens in one window; also the most rows in one pass."""
    stretch: int = 3
    """How many times as long a pass may take as one of answers alone, for the prompts that run with them; 0 for any."""
    wait_s: float = 5.0
    """Seconds that the first rows of a new job may wait for other prompts."""
    draft_depth: int = 0
    """Drafted tokens that one pass verifies at most; 0 for none."""
    overcommit: int = 100
    """Positions that jobs may be promised, in percent of those that there is room for."""
    credit: int = 0
    """Generated tokens that it serves unpaid for a client without history."""
    attach_s: float = 12.0
    """Seconds that a client has to attach once its order is taken: 10 that other legs may take to answer theirs."""
    lapse_s: float = 10.0
    """Seconds that a job may wait for its client alone."""
    warm_s: float = 1800.0
    """Seconds for which a session that is over stays in the KV, where nobody needs the room, for its client to go on
    from there."""
    idle_s: float = 30.0
    """Seconds that a job may wait where other legs may be the reason."""
