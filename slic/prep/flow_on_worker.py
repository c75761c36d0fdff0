"""Flow on the device of a Dask worker, kept from job to job and shared by its threads."""

import socket
import threading
from functools import cache

from slic.errors import WorkError
from slic.prep.flow_batches import Batcher, DeviceFailed
from slic.prep.flow_video import FlowDone, FlowJob, store_flow
from slic.prep.tvl1 import Tvl1Parameters, resolve_engine
from slic.prep.tvl1.device import DeviceSolver
from slic.runtime.processes import add_units

_making = threading.Lock()


@cache
def _batcher(engine: str, device: str, parameters: Tvl1Parameters) -> Batcher:
    name, where = resolve_engine(engine, device)
    return Batcher(DeviceSolver(name, where, parameters))


def store_flow_on_device(job: FlowJob, *, device: str) -> FlowDone:
    """Compute one video's flow on this worker's device, in batches with that of its other threads.

    Raises:
        WorkError: the store cannot be written, or the device failed.
    """
    try:
        with _making:  # two that ask at once are to get the same
            batcher = _batcher(job.engine, device, job.parameters)
        return store_flow(job, batcher.submit, counted=add_units)
    except DeviceFailed as error:
        raise WorkError(
            f"{device} of {socket.gethostname()} failed: {error}; end that worker, or run the same"
            " command again with --engine cpu"
        ) from None
