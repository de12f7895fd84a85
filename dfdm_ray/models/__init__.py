"""DMA-STA and its parts; knows torch, and neither Ray nor PyAV."""
