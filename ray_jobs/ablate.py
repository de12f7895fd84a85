"""Train variants of the model and compare them; the same as `dfdm-ray ablate`.

ray job submit --working-dir . -- python ray_jobs/ablate.py --help
"""

import sys

from dfdm_ray.cli import main

if __name__ == "__main__":
    main(["ablate", *sys.argv[1:]])
