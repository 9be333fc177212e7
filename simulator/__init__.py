"""The economics of the market on a virtual clock, on the price and amount kernels that nodes run."""
