"""Generate a dataset with the layout of DFDM; the same as `dfdm-ray generate`.

ray job submit --working-dir . -- python ray_jobs/generate.py --help
"""

import sys

from dfdm_ray.cli import main

if __name__ == "__main__":
    main(["generate", *sys.argv[1:]])
