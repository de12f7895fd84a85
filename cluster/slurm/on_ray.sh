#!/bin/bash
# Starts a Ray cluster on all nodes of this Slurm job, runs a command on it, and stops the cluster:
#
#   cluster/slurm/on_ray.sh python ray_jobs/score.py ...
#
# The .sbatch files in this folder call it, with the environment of requirements.lock activated.
set -euo pipefail

# Anyone who has the token can run code on the cluster. All nodes read it from the shared home folder.
umask 077
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
ray get-auth-token --generate > /dev/null

# Nodes that are booting or share a busy disk need more than the 30 seconds that Ray waits by default.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$first:$((20000 + SLURM_JOB_ID % 10000))
# The command needs this address. So does symmetric-run while it counts nodes: otherwise it searches /tmp/ray.
export RAY_ADDRESS=$address

# The exit code of the command is stored in the shared home folder. The one of symmetric-run is of no use: it is 0 if
# the head could not start, and 1 after a success, because its cluster is gone. Other nodes stop after a minute.
status=$HOME/.ray/status-$SLURM_JOB_ID
rm -f "$status"

# By default, Ray's dashboard listens only on the loopback address of the first node.
# shellcheck disable=SC2016
srun --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    ray symmetric-run --address "$address" --min-nodes "$SLURM_NNODES" \
    --num-cpus="$SLURM_CPUS_PER_TASK" --object-store-memory=8000000000 --temp-dir="/tmp/ray-$SLURM_JOB_ID" \
    -- bash -c '"$@"; echo $? > "$0"' "$status" "$@" || true

if [[ ! -s $status ]]; then
    echo "error: the command did not run, or was killed; see the output of Ray above" >&2
    exit 1
fi
code=$(< "$status")
rm "$status"
exit "$code"
