"""What one key remembers of others, on disk (`ports.PeerMemory`). Reading order: deeds, database, memory.

Counted from own jobs alone, by the day; what follows from it is decided in `protocol.reputation.standing`.
"""

from node.peers.database import PeerDatabase
from node.peers.deeds import Acquaintance, Deeds
from node.peers.memory import StoredMemory, open_memory

__all__ = ["Acquaintance", "Deeds", "PeerDatabase", "StoredMemory", "open_memory"]
