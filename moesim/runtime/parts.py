"""How numba compiles a function that is only ever part of others.

By itself numba turns each into machine code, with all that LLVM knows to do, before it is built
into what calls it, where the same is done again. A part is left as it is until then: half of the
time to compile a clock was for code that never ran.
"""

from __future__ import annotations

from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

__all__ = ["PartCompiler"]


class _Part(JITCodeLibrary):  # type: ignore[misc,unused-ignore]
    """Code that is linked to, and nothing else: it has no address."""

    @property
    def codegen(self) -> Any:
        """Whom numba tells what is at which address."""
        return self

    def set_env(self, *_: Any) -> None:
        """Tell a function at an address what Python objects it knows: there is no such function."""

    def _optimize_final_module(self) -> None:
        """Where it is built in it is."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()  # type: ignore[no-untyped-call,unused-ignore]
        self._finalized = True


class PartCompiler(Compiler):  # type: ignore[misc,unused-ignore]
    """numba's compiler, for parts."""

    def _compile_bytecode(self) -> Any:
        state: Any = self.state
        state.library = _Part(state.targetctx.codegen(), state.func_id.func_qualname)  # type: ignore[no-untyped-call,unused-ignore]
        return super()._compile_bytecode()  # type: ignore[no-untyped-call,unused-ignore]
