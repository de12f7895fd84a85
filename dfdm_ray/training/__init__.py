"""Training DMA-STA: the recipe, augmentation of whole clips, and a loop that runs on any number of ranks."""
