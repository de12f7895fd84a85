"""Make pages and an index of a score run; the same as `dfdm-ray report`.

ray job submit --working-dir . -- python ray_jobs/report.py --help
"""

import sys

from dfdm_ray.cli import main

if __name__ == "__main__":
    main(["report", *sys.argv[1:]])
