"""Commands of whoever runs a node: from setting it up to what it earns."""
