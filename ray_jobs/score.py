"""Attribute every video of an archive to a generator; the same as `dfdm-ray score`.

ray job submit --working-dir . -- python ray_jobs/score.py --help
"""

import sys

from dfdm_ray.cli import main

if __name__ == "__main__":
    main(["score", *sys.argv[1:]])
