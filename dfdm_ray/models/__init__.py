"""DMA-STA and its parts, without Ray and PyAV."""
