"""What a node's jobs earned and cost, on disk (`ports.JobJournal`). Reading order: tables, journal.

How it is summed up is decided in `protocol.serving.earnings`.
"""

from node.earnings.journal import StoredJournal, Work, open_journal
from node.earnings.tables import JournalTables, Kept

__all__ = ["JournalTables", "Kept", "StoredJournal", "Work", "open_journal"]
