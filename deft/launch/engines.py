"""Where runs happen: this machine, a Ray cluster, or SLURM. All start `child.py` with an order."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from deft.errors import DeftError, need
from deft.launch import child
from deft.launch.book import Order, is_held
from deft.launch.plan import Run

CHILD = Path(child.__file__)


class Handle(Protocol):
    """One attempt that was started."""

    def is_alive(self) -> bool: ...
    def stop(self) -> None:
        """Ask it to save and leave."""
        ...


class Engine(Protocol):
    """Starts attempts."""

    ends_with_parent: bool

    def has_room(self, run: Run) -> bool: ...
    def environment(self, run: Run) -> dict[str, str]:
        """Variables that decide which devices a run has; takes them until `release`."""
        ...

    def start(self, order: Order, run: Run) -> Handle: ...
    def adopt(self, order: Order) -> Handle | None:
        """An attempt that an earlier sweep started and that still lives."""
        ...

    def release(self, name: str) -> None: ...
    def close(self) -> None: ...


class Held:
    """An attempt of an earlier sweep on this machine, known by its lock."""

    def __init__(self, lock: Path) -> None:
        self._lock = lock

    def is_alive(self) -> bool:
        return is_held(self._lock)

    def stop(self) -> None:
        text = self._lock.read_text()
        if self.is_alive() and text.isdigit():
            os.kill(int(text), signal.SIGTERM)


class _Process:
    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        self._process.terminate()


class Local:
    """Processes on this machine, over its GPUs or over slots of the CPU.

    Args:
        gpus: numbers of the GPUs; none means the CPU.
        slots: runs at the same time on the CPU.
    """

    ends_with_parent = False

    def __init__(self, gpus: Sequence[int], slots: int) -> None:
        self._gpus = list(gpus)
        self._slots = slots
        self._taken: dict[str, list[int]] = {}

    def has_room(self, run: Run) -> bool:
        if not self._gpus:
            return len(self._taken) < self._slots
        if run.gpus > len(self._gpus):
            raise DeftError(
                f"'{run.name}' wants {run.gpus} GPUs, and there are {len(self._gpus)}.\n"
                "Fix: lower gpus_per_run, or name more in `gpus`."
            )
        return len(self._free()) >= run.gpus

    def environment(self, run: Run) -> dict[str, str]:
        taken = self._taken[run.name] = self._free()[: run.gpus]
        found = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, taken))}
        if not self._gpus:
            found["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // self._slots))
        return found

    def start(self, order: Order, run: Run) -> Handle:
        # In a session of its own: what ends the sweep or its terminal does not end the run.
        return _Process(
            subprocess.Popen(
                [sys.executable, str(CHILD), str(order.path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )

    def adopt(self, order: Order) -> Handle | None:
        if not is_held(Path(order.lock)):
            return None
        devices = order.env.get("CUDA_VISIBLE_DEVICES", "")
        self._taken[order.name] = [int(each) for each in devices.split(",") if each.isdigit()]
        return Held(Path(order.lock))

    def release(self, name: str) -> None:
        self._taken.pop(name, None)

    def close(self) -> None:
        pass

    def _free(self) -> list[int]:
        taken = {gpu for each in self._taken.values() for gpu in each}
        return [gpu for gpu in self._gpus if gpu not in taken]


def find_gpus(env: Mapping[str, str]) -> list[int]:
    """Numbers of this machine's GPUs that `CUDA_VISIBLE_DEVICES` does not hide; no torch."""
    visible = env.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [int(each) for each in visible.split(",") if each.strip().isdigit()]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return list(range(sum(line.startswith("GPU ") for line in listed.stdout.splitlines())))


def watch(path: str) -> int:
    """What a task of Ray's runs: an order, in a process that ends with the task's."""
    return subprocess.call([sys.executable, str(CHILD), path])


class _RayTask:
    def __init__(self, ray: Any, reference: Any) -> None:
        self._ray = ray
        self._reference = reference

    def is_alive(self) -> bool:
        return not self._ray.wait([self._reference], timeout=0)[0]

    def stop(self) -> None:
        self._ray.cancel(self._reference, force=True)


class Ray:
    """Tasks of a Ray cluster: `$RAY_ADDRESS`, or one of this machine that ends with the sweep.

    The runs' folder must be the same place on every node.

    Args:
        gpus: those of this machine to use, none for the CPU; None takes what the cluster has.
        slots: runs at the same time on the CPU of this machine.
        cpus_per_run: cores asked for each run.

    Raises:
        MissingPackageError: Ray is not installed.
    """

    # A run whose cluster is gone must not go on unseen: it saves, leaves, and is resumed.
    ends_with_parent = True

    def __init__(self, gpus: Sequence[int] | None, slots: int, cpus_per_run: int) -> None:
        self._ray = need("ray", "ray")
        self._cpus = cpus_per_run
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        self._limit: int | None = None
        if not os.environ.get("RAY_ADDRESS"):
            gpus = find_gpus(os.environ) if gpus is None else gpus
            count = max(slots, len(gpus))
            settings |= {"num_cpus": count * cpus_per_run, "include_dashboard": False}
            settings |= {"num_gpus": len(gpus)}
            # Ray hands out what it finds here.
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
            self._limit = None if gpus else slots
        self._is_ours = not self._ray.is_initialized()
        if self._is_ours:
            self._ray.init(**settings)
        in_cluster = self._ray.cluster_resources().get("GPU", 0)
        self._has_gpus = in_cluster > 0 if gpus is None else bool(gpus)
        self._count = 0

    def has_room(self, run: Run) -> bool:
        return self._limit is None or self._count < self._limit

    def environment(self, run: Run) -> dict[str, str]:
        self._count += 1
        return {} if self._has_gpus else {"CUDA_VISIBLE_DEVICES": ""}

    def start(self, order: Order, run: Run) -> Handle:
        ray = self._ray
        # An attempt that dies with its node is the sweep's to repeat, not Ray's.
        task = ray.remote(
            num_cpus=self._cpus, num_gpus=run.gpus if self._has_gpus else 0, max_retries=0
        )(watch)
        return _RayTask(ray, task.remote(str(order.path)))

    def adopt(self, order: Order) -> Handle | None:
        if not is_held(Path(order.lock)):
            return None
        self._count += 1
        return Held(Path(order.lock))

    def release(self, name: str) -> None:
        self._count -= 1

    def close(self) -> None:
        if self._is_ours:
            self._ray.shutdown()


class _SlurmJob:
    def __init__(self, job: Any) -> None:
        self._job = job

    def is_alive(self) -> bool:
        return not self._job.done(force_check=False)

    def stop(self) -> None:
        self._job.cancel()


class SlurmTask:
    """What a SLURM job runs; SLURM may take it off its node and start it again."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, path: str) -> int:
        self._process = subprocess.Popen([sys.executable, str(CHILD), path])
        return self._process.wait()

    def checkpoint(self, path: str) -> Any:
        """Called before a preempted job is taken away: the training saves, and goes on in the job
        that replaces this one."""
        submitit = need("submitit", "slurm")
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        return submitit.helpers.DelayedSubmission(SlurmTask(), path)


class Slurm:
    """Jobs of SLURM through submitit; with `cluster: local` they run on this machine.

    Args:
        folder: where submitit keeps scripts and logs.
        settings: what submitit takes, and `cluster`.
        has_gpus: whether runs get GPUs.

    Raises:
        MissingPackageError: submitit is not installed.
        DeftError: there is no SLURM here, or it does not know a setting.
    """

    ends_with_parent = False

    def __init__(self, folder: Path, settings: Mapping[str, Any], has_gpus: bool) -> None:
        self._submitit = need("submitit", "slurm")
        chosen = dict(settings)
        self._cluster = str(chosen.pop("cluster", "slurm"))
        self._settings = {"timeout_min": 24 * 60} | chosen
        self._folder = folder / "slurm"
        self._has_gpus = has_gpus
        try:
            self._executor = self._submitit.AutoExecutor(folder=self._folder, cluster=self._cluster)
        except (RuntimeError, ValueError) as error:
            raise DeftError(
                f"There is no cluster '{self._cluster}' here.\nFound: {error}.\n"
                "Fix: start the sweep where sbatch is, or set `slurm: {cluster: local}`."
            ) from error

    def has_room(self, run: Run) -> bool:
        return True

    def environment(self, run: Run) -> dict[str, str]:
        return {} if self._has_gpus else {"CUDA_VISIBLE_DEVICES": ""}

    def start(self, order: Order, run: Run) -> Handle:
        settings = {"name": f"deft-{run.name}"} | self._settings
        if self._has_gpus:
            settings.setdefault("gpus_per_node", run.gpus)
        try:
            self._executor.update_parameters(**settings)
            job = self._executor.submit(SlurmTask(), str(order.path))
        except (NameError, TypeError, ValueError, self._submitit.core.utils.UncompletedJobError,
                self._submitit.core.utils.FailedJobError) as error:  # fmt: skip
            raise DeftError(
                f"'{run.name}' cannot be given to {self._cluster}.\nFound: {error}.\n"
                "Fix: correct `slurm:` in the sweep's file."
            ) from error
        self._note(order).write_text(str(job.job_id))
        return _SlurmJob(job)

    def adopt(self, order: Order) -> Handle | None:
        note = self._note(order)
        if not note.exists():
            return None
        if self._cluster == "local":  # its jobs cannot be asked for by number
            return Held(Path(order.lock)) if is_held(Path(order.lock)) else None
        job = _SlurmJob(self._submitit.SlurmJob(folder=self._folder, job_id=note.read_text()))
        return job if job.is_alive() else None

    def release(self, name: str) -> None:
        pass

    def close(self) -> None:
        pass

    @staticmethod
    def _note(order: Order) -> Path:
        """Where the number of an attempt's job is kept."""
        return Path(order.exit).with_suffix(f".job{order.attempt}")
