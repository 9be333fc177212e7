"""A live page of what runs on this machine: the network that it sees, its nodes, its client's jobs.

Reading order: view (what is shown), gathering (where it comes from), server (who may see it). The page asks nobody for
anything but this server, and needs no network.
"""

from node.page.gathering import Gatherer
from node.page.server import page_app, serve_page

__all__ = ["Gatherer", "page_app", "serve_page"]
