"""Trees of PNG frames as the authors of DMA-STA keep them, to and from crops datasets."""
