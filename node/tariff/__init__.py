"""What a site's power costs: tariff files, feeds and signals. Reading order: description, reading, schedule, follow.

What is computed with them is decided in `protocol`; here are zones, files and servers.
"""

from node.tariff.follow import FollowedSupply, checked_tariff
from node.tariff.kept import KeptFeeds
from node.tariff.schedule import SupplySeries
from node.tariff.signals import FollowedSignal

__all__ = ["FollowedSignal", "FollowedSupply", "KeptFeeds", "SupplySeries", "checked_tariff"]
