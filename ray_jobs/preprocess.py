"""Crop the faces of every video for training; the same as `dfdm-ray preprocess`.

ray job submit --working-dir . -- python ray_jobs/preprocess.py --help
"""

import sys

from dfdm_ray.cli import main

if __name__ == "__main__":
    main(["preprocess", *sys.argv[1:]])
