#!/bin/bash
# The reference workload on 1, 2, 4 nodes of a Slurm cluster: one MPI rank a node, threads inside each rank.
#
#     sbatch examples/slurm_mpi.sh
#
# Python's environment must be the same on all nodes, with convbench and mpi4py in it, built against
# the cluster's own MPI (see docs/clusters.md); activate it here.
#SBATCH --job-name=convbench-mpi
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --exclusive
#SBATCH --time=00:30:00
#SBATCH --output=convbench-mpi-%j.log
set -euo pipefail

ranks=${SLURM_NTASKS:?not inside of a Slurm job}
counts=$(for ((n = 1; n <= ranks; n *= 2)); do echo "$n"; done | paste -sd,)
export I_MPI_PIN=0 # Intel MPI: ranks may use all CPUs of their node; Open MPI: add --bind-to none below

mpirun -n "$ranks" convbench sweep \
    --executors mpi --cores "$counts" --threads-per-rank "${SLURM_CPUS_PER_TASK:-1}" \
    --runs 10 --output "reports/mpi-$SLURM_JOB_ID"
convbench report "reports/mpi-$SLURM_JOB_ID"
