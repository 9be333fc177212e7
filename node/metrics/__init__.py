"""Figures of a process for Prometheus: what its events say, counted, and what it can be asked for.

Reading order: `counting`, `serving`. Nothing of what is asked or answered is in them, and no address of anybody; every
label has a bounded number of values.
"""

from node.metrics.counting import Metrics
from node.metrics.serving import serving_metrics

__all__ = ["Metrics", "serving_metrics"]
