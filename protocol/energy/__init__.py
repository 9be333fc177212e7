"""Joules and what they cost: tariffs, feeds of prices, and how a meter's count is shared out."""
