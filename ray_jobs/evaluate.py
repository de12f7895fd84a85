"""Compare predictions with the truth; the same as `dfdm-ray evaluate`.

ray job submit --working-dir . -- python ray_jobs/evaluate.py --help
"""

import sys

from dfdm_ray.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
