"""What a way of handling misses is: where a missing expert is computed."""

from __future__ import annotations

from typing import Any, ClassVar

from moesim.config.params import Params

LOADED, ON_HOST, OVER_LINK = range(3)
"""On the GPU after a load into a slot; by the host; on the GPU, its weights read over the link."""
NO_LIMIT = 1 << 62


class MissHandling(Params):
    """A way gives ``place(copied, hosted, loads, copy_ns, kernel_ns, host_ns, most_loads)``.

    Of this step and layer on one GPU so far: ``copied`` and ``hosted`` nanoseconds of copies and of
    the host, ``loads`` made; of the missing expert: its copy's, its kernel's and the host's price.
    It is plain arithmetic that numba compiles, and reads no clock.
    """

    compares: ClassVar[bool] = False
    """Whether ``place`` reads prices; they are 0 where it does not."""
    loads: ClassVar[bool] = True
    """Whether experts may be loaded."""
    uses_host: ClassVar[bool] = False
    """Whether experts may be computed by the host."""
    uses_link: ClassVar[bool] = False
    """Whether kernels may read weights over the link."""

    def most_loads(self) -> int:
        """Loads that a step may make in a layer on one GPU."""
        return NO_LIMIT

    @staticmethod
    def place(
        copied: Any,
        hosted: Any,
        loads: Any,
        copy_ns: Any,
        kernel_ns: Any,
        host_ns: Any,
        most_loads: Any,
    ) -> Any:
        """LOADED, ON_HOST or OVER_LINK."""
        raise NotImplementedError
