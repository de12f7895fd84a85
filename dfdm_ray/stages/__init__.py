"""The stages of the Ray Data pipelines: one row in, one row out, a bad video is a rejected row."""
