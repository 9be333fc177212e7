"""A provider node: one span of one model, offered, served and paid. The whole daemon is visible in `run_node`."""

from __future__ import annotations
