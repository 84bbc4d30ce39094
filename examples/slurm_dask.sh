#!/bin/bash
# The reference workload on 1, 2, 4 nodes of a Slurm cluster: Dask's scheduler on the first, a worker on each.
#
#     sbatch examples/slurm_dask.sh
#
# Python's environment must be the same on all nodes, with convbench[dask] in it; activate it here. The scheduler's file
# must lie where all nodes see it.
#SBATCH --job-name=convbench-dask
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --exclusive
#SBATCH --time=00:30:00
#SBATCH --output=convbench-dask-%j.log
set -euo pipefail

workers=${SLURM_NTASKS:?not inside of a Slurm job}
counts=$(for ((n = 1; n <= workers; n *= 2)); do echo "$n"; done | paste -sd,)
file=$PWD/scheduler-$SLURM_JOB_ID.json
trap 'kill $(jobs -p) 2>/dev/null; rm -f "$file"' EXIT

dask scheduler --scheduler-file "$file" --no-dashboard &
srun dask worker --scheduler-file "$file" --nthreads 1 --no-dashboard &

convbench sweep \
    --executors dask --scheduler-file "$file" --cores "$counts" --threads-per-worker "${SLURM_CPUS_PER_TASK:-1}" \
    --runs 10 --output "reports/dask-$SLURM_JOB_ID"
convbench report "reports/dask-$SLURM_JOB_ID"
