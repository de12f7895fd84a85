"""One video to the face crops of its clips, and the process that does it."""
