"""Models in GGUF files: header, tensors by class and layer, and the model they are."""

from moesim.model.gguf.build import load_gguf
from moesim.model.gguf.header import is_gguf

__all__ = ["is_gguf", "load_gguf"]
