"""Answers from Python: a client of the market for programs.

::

    async with Client(ledger="https://ledger.example.org", passphrase="...") as client:
        async for piece in client.run("Tell me a story."):
            print(piece, end="")

Settings are those of `joule run`, by the names that they have in a file; the environment counts, too. What is raised
are `protocol.errors.JoulemeshError`s, which say what to do.
"""

from node.api.client import Answer, Client
from node.api.waiting import WaitingAnswer, WaitingClient

__all__ = ["Answer", "Client", "WaitingAnswer", "WaitingClient"]
