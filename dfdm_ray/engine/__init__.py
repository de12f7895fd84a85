"""Any job over many videos: Ray, stages, one run, one output folder."""
