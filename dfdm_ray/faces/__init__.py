"""Faces: detection, tracks over frames, the subject of a video, and its crops."""
