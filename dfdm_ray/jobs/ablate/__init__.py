"""Compare variants of the network."""
