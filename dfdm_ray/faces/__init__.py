"""Face detection, face tracks over frames, the subject of a video, and face crops."""
