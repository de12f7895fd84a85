"""Check whether a cluster is ready for the jobs; the same as `dfdm-ray doctor`.

ray job submit --working-dir . -- python ray_jobs/doctor.py --help
"""

import sys

from dfdm_ray.cli import main

if __name__ == "__main__":
    main(["doctor", *sys.argv[1:]])
