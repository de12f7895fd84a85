#!/bin/bash
# Runs a command on a Ray cluster over all nodes of this Slurm job, which ends with the command:
#
#   cluster/slurm/on_ray.sh python ray_jobs/score.py ...
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
# For the command, and for symmetric-run itself while it counts nodes: it looks for a cluster in /tmp/ray otherwise.
export RAY_ADDRESS=$address

# The command says how it ended in the shared home: symmetric-run itself ends with 0 where the head could not start,
# and with 1 when all went well, because its own cluster is gone. Other nodes notice the end after a minute.
status=$HOME/.ray/status-$SLURM_JOB_ID
rm -f "$status"

# The dashboard of Ray listens on the loopback address of the first node only, which is its default.
# shellcheck disable=SC2016
srun --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    ray symmetric-run --address "$address" --min-nodes "$SLURM_NNODES" \
    --num-cpus="$SLURM_CPUS_PER_TASK" --object-store-memory=8000000000 --temp-dir="/tmp/ray-$SLURM_JOB_ID" \
    -- bash -c '"$@"; echo $? > "$0"' "$status" "$@" || true

if [[ ! -s $status ]]; then
    echo "error: the command did not run, or was killed; what Ray said is above" >&2
    exit 1
fi
code=$(< "$status")
rm "$status"
exit "$code"
