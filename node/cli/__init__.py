"""The `joule` command: parse, call one function, print. What the functions do is decided elsewhere.

`entry` holds the command tree and its entry point, `terminal.boundary` turns every error into a message and an exit
status, `terminal.options` makes flags of the settings in `node.config`. Commands stand with those who give them:
`buying`, `selling`, `ledgers`, `models`, and what all have, `accounts`. Heavy packages are imported inside the commands
that need them.
"""

from node.cli.entry import main

__all__ = ["main"]
