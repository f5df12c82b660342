"""How numba compiles a function, and one that is only ever part of others.

By itself numba turns each into machine code, with all that LLVM knows to do, before it is built
into what calls it, where the same is done again. A part is left as it is until then: half of the
time to compile a clock was for code that never ran. And of each function numba looks for closures
to build in, and works out nearly a dozen times where its variables are alive, which is read once.
What it has found for a call it keeps by all the options of how that is compiled, each of which it
looked up to compare.
"""

from __future__ import annotations

from typing import Any

from numba.core import ir, postproc
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_machinery import register_pass
from numba.core.targetconfig import TargetConfig
from numba.core.transforms import canonicalize_cfg
from numba.core.untyped_passes import InlineClosureLikes

__all__ = ["LeanCompiler", "PartCompiler", "compare_as_set", "put_off_lifetimes"]

CLOSURES = {"make_function", "build_list"}
"""What a function has that makes closures, or an array of a list, which numba builds in alike."""


def put_off_lifetimes() -> None:
    """Work out where variables are alive when they end there, and else when it is asked for."""
    processor: Any = postproc.PostProcessor
    lifetimes: Any = postproc.VariableLifetime
    canonical: Any = canonicalize_cfg
    at_once = processor.run

    def run(self: Any, emit_dels: bool = False, extend_lifetimes: bool = False) -> None:
        code = self.func_ir
        if emit_dels or code.is_generator:
            at_once(self, emit_dels, extend_lifetimes)
            return
        code.blocks, code.generator_info = canonical(code.blocks), None
        code.variable_lifetime = lifetimes(code.blocks)

    processor.run = run


def compare_as_set() -> None:
    """Options are the same where the same stand for anything but what they do anyway. numba asks
    each, dozens of times for a line of code, and hashes all alike, so that it asks them of others.
    """
    options: Any = TargetConfig

    def told(self: Any) -> dict[str, Any]:
        usual = self.options
        return {k: v for k, v in self._values.items() if v != usual[k].default}

    def same(self: Any, other: Any) -> Any:
        return type(self) is type(other) and told(self) == told(other)

    options.__eq__ = same
    options.__hash__ = lambda self: hash(frozenset(told(self)))


@register_pass(mutates_CFG=True, analysis_only=False)  # type: ignore[misc,no-untyped-call,unused-ignore]
class _Closures(InlineClosureLikes):  # type: ignore[misc,unused-ignore]
    """What builds closures in, where there are some."""

    _name = "inline_closures"

    def run_pass(self, state: Any) -> Any:
        """Whether it has changed the code."""
        values = [one.value for block in state.func_ir.blocks.values() for one in _assigned(block)]
        if CLOSURES.isdisjoint(one.op for one in values if isinstance(one, ir.Expr)):
            return False
        return super().run_pass(state)  # type: ignore[no-untyped-call,unused-ignore]


def _assigned(block: Any) -> Any:
    return block.find_insts(ir.Assign)


class LeanCompiler(Compiler):  # type: ignore[misc,unused-ignore]
    """numba's compiler, which looks for closures where there may be some."""

    def define_pipelines(self) -> Any:
        """What numba has, but for that step."""
        pipelines = super().define_pipelines()  # type: ignore[no-untyped-call,unused-ignore]
        for one in pipelines:
            one.passes = [
                (_Closures if step is InlineClosureLikes else step, why) for step, why in one.passes
            ]
            one.finalize()
        return pipelines


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


class PartCompiler(LeanCompiler):  # type: ignore[misc,unused-ignore]
    """numba's compiler, for parts."""

    def _compile_bytecode(self) -> Any:
        state: Any = self.state
        state.library = _Part(state.targetctx.codegen(), state.func_id.func_qualname)  # type: ignore[no-untyped-call,unused-ignore]
        return super()._compile_bytecode()  # type: ignore[no-untyped-call,unused-ignore]
