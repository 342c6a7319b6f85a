"""A SLURM of one node on this machine, from Debian's packages, without systemd."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
MISSING = [program for program in PROGRAMS if shutil.which(program) is None]
NO_SLURM = (
    "no SLURM that may be started: as root, apt-get install slurmctld slurmd slurm-client munge, "
    "where none runs"
)
# Signals without a second's wait; a node that is silent for ten seconds is down, and its jobs are
# queued again five seconds later.
CONFIG = """
ClusterName=ci
# Steps that an earlier controller has lost must not be taken for its own.
FirstJobId={first_job}
SlurmctldHost={host}({address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
KillWait=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort=16817
SlurmdPort=16818
SlurmdParameters=config_overrides
NodeName={host} NodeAddr={address} CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=ci Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def can_start() -> bool:
    """Whether this is root's machine, with the programs, and no SLURM that already runs."""
    if MISSING or os.geteuid() != 0:
        return False
    found = (
        subprocess.run(["pgrep", "-x", daemon], capture_output=True, check=False)
        for daemon in ("slurmd", "slurmctld")
    )
    return all(each.returncode for each in found)


class OneNodeSlurm:
    """Starts and stops controller and node."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.host = folder, socket.gethostname()
        self.config = folder / "slurm.conf"
        self.env = os.environ | {"SLURM_CONF": str(self.config)}

    def start(self) -> None:
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        address = socket.gethostbyname(self.host)
        names = {"host": self.host, "address": address, "folder": self.folder}
        text = CONFIG.format(**names, first_job=1000 + os.getpid() % 60000)
        self.config.write_text(text)
        # Munge, unless it runs
        if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode:
            Path("/run/munge").mkdir(exist_ok=True)
            shutil.chown("/run/munge", "munge", "munge")
            subprocess.run(["runuser", "-u", "munge", "--", "munged"], check=True)
        # Controller and node
        subprocess.run(["slurmctld", "-f", self.config], check=True, env=self.env)
        self.start_node()
        self.wait(lambda: "idle" in self.call("sinfo", "-h", "-o", "%T"), 60)

    def stop(self) -> None:
        """End jobs and daemons; what was not started is let be."""
        subprocess.run(["scancel", "--user=root"], env=self.env, capture_output=True, check=False)
        for daemon in ("slurmd", "slurmctld"):
            pid = self.folder / f"{daemon}.pid"
            if pid.exists():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid.read_text()), signal.SIGTERM)

    def start_node(self) -> None:
        subprocess.run(["slurmd", "-f", self.config], check=True, env=self.env)

    def kill_node(self, command: Path) -> None:
        """End the node's daemon, its steps and what they run, as a machine that loses power.

        Args:
            command: Named by what its steps run, and by nothing else on this machine.
        """
        os.kill(int((self.folder / "slurmd.pid").read_text()), signal.SIGKILL)
        subprocess.run(["pkill", "-KILL", "slurmstepd"], check=False)
        subprocess.run(["pkill", "-KILL", "-f", str(command)], check=False)

    def call(self, *words: str | Path) -> str:
        done = subprocess.run(
            words, env=self.env, cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout.strip()

    def submit(self, cwd: Path, env: Mapping[str, str], *words: str | Path) -> str:
        done = subprocess.run(
            ["sbatch", "--parsable", *map(str, words)],
            env=self.env | dict(env),
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def minutes(self, job: str) -> int:
        """Whole minutes that the first task of an array has run."""
        elapsed = self.call("squeue", "-h", "-j", f"{job}_0", "-o", "%M")
        return int(elapsed.split(":")[-2])

    def log(self, folder: Path, job: str, index: int) -> str:
        """What a task of an array has written."""
        path = folder / f"dofsuite-{job}_{index}.log"
        return path.read_text() if path.exists() else ""

    def signal_batch(self, task: str) -> None:
        """Send USR1 to a task's shell alone.

        It arrives at once; scancel repeats it for more than a minute, and then fails with "Job can
        not be altered now". It is not waited for so long.
        """
        words = ["scancel", "--signal=USR1", "--batch", task]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(words, env=self.env, capture_output=True, check=False, timeout=5)

    def jobs(self) -> list[str]:
        """`ID STATE` of the jobs that have not ended."""
        return self.call("squeue", "-h", "-r", "-o", "%i %T").splitlines()

    def wait(self, condition: Callable[[], object], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} s; {self.jobs()}"
            time.sleep(0.5)
