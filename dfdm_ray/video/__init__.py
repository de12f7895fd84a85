"""Video files: the frame plan from the index of a container, and exact decoding with PyAV."""
