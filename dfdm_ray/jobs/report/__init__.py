"""Show the answers of a score run to a person: a page for a video, and an index of all."""
