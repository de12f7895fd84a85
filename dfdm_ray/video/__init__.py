"""Video files: the frame plan over a container's index, and exact decoding with PyAV."""
