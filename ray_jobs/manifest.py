"""List the videos of an archive and split them; the same as `dfdm-ray manifest`.

ray job submit --working-dir . -- python ray_jobs/manifest.py --help
"""

import sys

from dfdm_ray.cli import main

if __name__ == "__main__":
    main(["manifest", *sys.argv[1:]])
