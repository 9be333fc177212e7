"""Settings that a running service takes over: read again on SIGHUP, compared, and handed to whoever follows them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from node.events import Events, RestartNeeded, SettingsChanged, SettingsRefused
from node.settings import differences
from protocol.errors import ConfigurationError

__all__ = ["Reload"]

C = TypeVar("C")


def _nobody(_config: object) -> None:
    """Before there is anything that follows."""


class Reload(Generic[C]):
    """The settings in force, and how they are read again.

    What cannot be taken over is named, and stays as it was at the start; so does everything when the new settings are
    not valid. Nothing that is wrong with them ends the service.

    Args:
        config: as read at the start.
        read: reads file, environment and flags again; raises ConfigurationError.
    """

    def __init__(self, config: C, read: Callable[[], C], events: Events) -> None:
        self.config = config
        """In force now."""
        self._read = read
        self._events = events
        self._followers: list[Callable[[C], None]] = []
        self._latest: Callable[[C], None] = _nobody

    def follow(self, changed: Callable[[C], None]) -> None:
        """Call `changed` with the settings in force whenever some of them are new.

        It takes them over at once, and does not wait. Where they make no sense to it, it raises ConfigurationError and
        is as it was before; then everyone goes back.
        """
        self._followers.append(changed)

    def follow_one(self, changed: Callable[[C], None]) -> None:
        """Likewise, in the place of what was given here before: of things that come one after the other."""
        self._latest = changed

    def __call__(self) -> None:
        """Read the settings again, and take over what can be."""
        try:
            wanted = self._read()
            changed = differences(self.config, wanted)
            taken = [each for each in changed if each.reloadable]
            left = tuple(each.name for each in changed if not each.reloadable)
            values: dict[str, Any] = {each.field: getattr(wanted, each.field) for each in taken}
            self._take(dataclasses.replace(self.config, **values))  # type: ignore[type-var]
        except ConfigurationError as error:
            self._events(SettingsRefused(reason=error.message, hint=error.hint))
            return
        self._events(SettingsChanged(settings=tuple(each.name for each in taken)))
        if left:
            self._events(RestartNeeded(settings=left))

    def _take(self, config: C) -> None:
        if config == self.config:
            return
        told: list[Callable[[C], None]] = []
        try:
            for follower in (*self._followers, self._latest):
                follower(config)
                told.append(follower)
        except ConfigurationError:
            for follower in told:
                follower(self.config)
            raise
        self.config = config
