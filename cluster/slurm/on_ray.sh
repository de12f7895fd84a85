#!/bin/bash
# Runs a command on a Ray cluster over all nodes of this Slurm job, which ends with the command:
#
#   cluster/slurm/on_ray.sh python ray_jobs/score_videos.py ...
#
# Called by the .sbatch files beside it, with the environment of requirements.lock activated.
set -euo pipefail

# Who has the token can run code on the cluster. The home folder is shared, so all nodes find it there.
umask 077
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
ray get-auth-token --generate > /dev/null

# Nodes that boot or share a busy disk take longer than the 30 seconds that Ray would wait.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$first:$((20000 + SLURM_JOB_ID % 10000))

# The dashboard of Ray listens on the loopback address of the first node only, which is its default.
srun --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    ray symmetric-run --address "$address" --min-nodes "$SLURM_NNODES" \
    --num-cpus="$SLURM_CPUS_PER_TASK" --object-store-memory=4000000000 --temp-dir="/tmp/ray-$SLURM_JOB_ID" \
    -- env RAY_ADDRESS="$address" "$@"
