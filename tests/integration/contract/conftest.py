"""The command line, run in this process with a home of its own."""

from joule_command import home, joule

__all__ = ["home", "joule"]
