"""Train DMA-STA on a crops dataset."""
