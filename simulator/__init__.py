"""The economics of the market on a virtual clock, driven by the same rules that nodes run."""
