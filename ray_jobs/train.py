"""Train DMA-STA on a crops dataset; the same as `dfdm-ray train`.

ray job submit --working-dir . -- python ray_jobs/train.py --help
"""

import sys

from dfdm_ray.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
