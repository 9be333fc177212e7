"""From offers to a route: the cheapest lawful chain, who stands by, and why there is none."""
