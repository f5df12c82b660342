"""What an importer is."""

from __future__ import annotations

from abc import abstractmethod

from moesim.config.params import Params
from moesim.trace.recording import Recording
from moesim.trace.routing import RoutingTrace


class Importer(Params):
    """Reads one recorded format; a subclass has its own ``kind: Literal[...]``."""

    @abstractmethod
    def recognises(self, recording: Recording) -> bool:
        """Whether the file looks like this format; cheap, and never an error for other formats."""

    @abstractmethod
    def read(self, recording: Recording) -> RoutingTrace:
        """The trace in ``recording``; InputError if it is damaged or lacks something."""
