"""How good predictions are: which videos count, metrics, intervals, and reports of them."""
