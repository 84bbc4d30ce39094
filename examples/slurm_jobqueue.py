"""The reference workload on Dask workers that dask-jobqueue gets from Slurm, one job for each.

    python examples/slurm_jobqueue.py [WORKERS] [THREADS]

runs on a login node, or wherever jobs can be submitted and workers can connect back to; it needs convbench[dask] and
dask-jobqueue there and on the nodes. Where there is no Slurm, it prints the job script that it would submit.
"""

import shutil
import subprocess
import sys

from dask_jobqueue import SLURMCluster


def cluster_of(threads: int) -> SLURMCluster:
    """A scheduler in this process, and workers of so many threads, each in a job of its own."""
    return SLURMCluster(
        cores=1,  # of Dask's threads: a worker computes one part, on threads of its own
        processes=1,
        job_cpu=threads,
        memory="16GB",
        walltime="00:30:00",
        job_extra_directives=["--job-name=convbench-worker"],
        scheduler_options={"dashboard_address": ":0"},  # any port that is free
    )


def main(workers: str = "4", threads: str = "16") -> None:
    """Start the workers, and sweep over their numbers."""
    with cluster_of(int(threads)) as cluster:
        if shutil.which("sbatch") is None:
            print(cluster.job_script())
            return
        cluster.scale(jobs=int(workers))
        counts = ",".join(str(2**n) for n in range(int(workers).bit_length()))
        command = [sys.executable, "-m", "convbench", "sweep", "--executors", "dask", "--cores", counts]
        command += ["--scheduler", cluster.scheduler_address, "--threads-per-worker", threads]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
