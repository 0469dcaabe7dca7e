"""Several devices and several processes for one fit: JAX computes, this module starts it and keeps processes in step.

Every process runs the same script. The rows of the data are spread over all devices of all processes, parameters are
the same on each, and XLA sums the gradient. What a process decides by itself (by its clock, by Ctrl-C) is agreed on
before anybody acts on it: the processes must call the same compiled programs in the same order.

Failures are not repaired: the launcher starts all processes again, and ``fit(checkpoint=...)`` goes on.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from posterion._typing import PyTree
from posterion.errors import OptionError

__all__ = ["initialize"]

ROWS = "rows"
"""Name of the mesh's only axis."""
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_BY_MPI4PY = ("PMI_RANK", "PMIX_RANK")
"""Set by mpiexec of MPICH, Intel MPI and Open MPI 5, which JAX finds through mpi4py only."""


def initialize(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    heartbeat_seconds: int = 30,
) -> None:
    """Join this process to the others of its job. Call it in every process before anything else uses JAX.

    Without arguments the job is looked up: SLURM (``srun``), Open MPI, MPICH and Intel MPI (``mpiexec``), Kubernetes
    (an Indexed Job or JobSet). Everywhere else give all three.

    Parameters
    ----------
    coordinator
        "host:port" of the first process, where all others reach it. A loopback address listens there only; any other
        is open to whoever reaches the port, so it belongs behind a firewall.
    num_processes
        How many there are.
    process_id
        Which of them this is, from 0.
    heartbeat_seconds
        After how many seconds without a sign of life a process counts as dead and the others end.

    Raises
    ------
    OptionError
        If some of the three are missing and no job is found, or the processes cannot find each other.
    """
    given = (coordinator, num_processes, process_id)
    options: dict[str, Any] = {"heartbeat_timeout_seconds": heartbeat_seconds}
    if coordinator is not None and coordinator.rpartition(":")[0] in _LOOPBACK:
        options["coordinator_bind_address"] = coordinator
    if all(value is None for value in given) and any(name in os.environ for name in _BY_MPI4PY):
        if "SLURM_STEP_NODELIST" not in os.environ and find_spec("mpi4py") is not None:
            options["cluster_detection_method"] = "mpi4py"
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id, **options)
    except (ValueError, RuntimeError) as error:
        raise OptionError(
            f"the processes were not joined: {error}. Call initialize() once, before anything else uses JAX; where no "
            'launcher is found (srun, mpiexec, Kubernetes), give initialize("host:port", num_processes, process_id) in '
            "every process"
        ) from error


@dataclass(frozen=True)
class Team:
    """The devices a fit runs on, and the processes they belong to.

    Parameters
    ----------
    mesh
        All devices in a line; None for one device.
    num_processes
        How many processes take part; all of them run the same fit.
    """

    mesh: Mesh | None = None
    num_processes: int = 1

    @property
    def num_devices(self) -> int:
        """How many devices share the rows."""
        return 1 if self.mesh is None else self.mesh.size

    @property
    def leads(self) -> bool:
        """Whether this process is the one that shows progress, calls callbacks and writes files."""
        return self.num_processes == 1 or jax.process_index() == 0

    @property
    def everywhere(self) -> NamedSharding | None:
        """The same array on every device."""
        return None if self.mesh is None else NamedSharding(self.mesh, PartitionSpec())

    def along(self, axis: int) -> NamedSharding | None:
        """An array whose ``axis`` is spread over the devices."""
        return None if self.mesh is None else NamedSharding(self.mesh, PartitionSpec(*[None] * axis, ROWS))

    def put(self, array: np.ndarray, sharding: NamedSharding) -> jax.Array:
        """An array that every process holds, on the devices; each process passes on its own share."""
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    # ---- agreeing
    def agree(self, tree: PyTree) -> PyTree:
        """The leader's arrays and numbers, bit by bit, in every process; shapes and types must be those of all."""
        if self.num_processes == 1:
            return tree
        leaves, structure = jax.tree.flatten(tree)
        leaves = [np.asarray(leaf) for leaf in leaves]
        found, place = self._broadcast(b"".join(leaf.tobytes() for leaf in leaves)), 0
        for k, leaf in enumerate(leaves):
            leaves[k] = np.frombuffer(found, leaf.dtype, leaf.size, place).reshape(leaf.shape).copy()
            place += leaf.nbytes
        return jax.tree.unflatten(structure, leaves)

    def agree_on_bytes(self, content: bytes | None) -> bytes | None:
        """The leader's bytes, or its None; the others' are not looked at."""
        if self.num_processes == 1:
            return content
        size = int(self.agree(np.int64(-1 if content is None else len(content))))
        if size < 0:
            return None
        padded = -(-size // 1024) * 1024
        return (
            self._broadcast((content or b"")[:size].ljust(padded, b"\0"))[:size]
            if self.leads
            else (self._broadcast(bytes(padded))[:size])
        )

    def anyone(self, value: bool) -> bool:  # noqa: FBT001
        """Whether it is true in any process."""
        if self.num_processes == 1:
            return value
        from jax.experimental import multihost_utils

        return bool(np.any(multihost_utils.process_allgather(np.asarray(value))))

    @staticmethod
    def _broadcast(content: bytes) -> bytes:
        from jax.experimental import multihost_utils

        words = np.frombuffer(content, np.uint8)
        return np.asarray(multihost_utils.broadcast_one_to_all(words), np.uint8).tobytes()


SOLO = Team()
"""One process on one device."""


def team(distribute: str = "auto") -> Team:
    """The team of a fit with this ``distribute=`` argument.

    Parameters
    ----------
    distribute
        "auto" for all devices of all processes, "none" for the first device of this process alone.

    Raises
    ------
    OptionError
        For anything else.
    """
    if distribute not in ("auto", "none"):
        raise OptionError(
            f"distribute must be 'auto' (all devices of all processes) or 'none' (one device), not {distribute!r}"
        )
    if distribute == "none" or (jax.device_count() == 1 or jax.config.jax_default_device is not None):
        return SOLO
    return _team_of_all(jax.device_count(), jax.process_count())


@lru_cache(maxsize=1)
def _team_of_all(num_devices: int, num_processes: int) -> Team:
    # Auto, not make_mesh's default Explicit, under which 13 of 17 ordinary operations of a log density raise.
    return Team(jax.make_mesh((num_devices,), (ROWS,), axis_types=(AxisType.Auto,)), num_processes)


@contextmanager
def interruptions(team: Team) -> Iterator[Callable[[], bool]]:
    """Within, Ctrl-C in one of several processes is a flag that all of them see; alone it stays a KeyboardInterrupt.

    A process that left a computation by itself would leave the others waiting for it.
    """
    if team.num_processes == 1 or threading.current_thread() is not threading.main_thread():
        yield lambda: team.anyone(value=False)
        return
    asked = []
    before = signal.signal(signal.SIGINT, lambda *_: asked.append(None))
    try:
        yield lambda: team.anyone(bool(asked))
    finally:
        signal.signal(signal.SIGINT, before)
