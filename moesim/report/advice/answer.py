"""The answer to a question without a file: what fits, how fast, how, and how far to trust it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from moesim.config.counted import counted
from moesim.config.errors import InputError
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.questions.shares import MEMORY_SHARES, own_buffers, share_of
from moesim.hardware.choice import is_choice
from moesim.hardware.choice import words as machine_words
from moesim.model import load_model
from moesim.report.advice.ends import choice_depends, ended
from moesim.report.advice.tables import (
    choices_table,
    drive,
    left_out,
    limited,
    moves,
    ranges,
    trust,
    upgrade,
    upgrades_table,
)
from moesim.report.amounts import number
from moesim.sweep.advise.abilities import ANY, ENGINES, STOCK
from moesim.sweep.advise.advice import Advice, Fit
from moesim.sweep.advise.choices import ON_HOST
from moesim.sweep.advise.ranges import CONTEXT
from moesim.sweep.advise.room import Memory
from moesim.sweep.advise.scored import Scored

MORE_LAYERS = "where it does not load, put a layer or two more on the CPU"
SPARE = 10**9
"""Bytes that such buffers hardly take."""
SHARED = 1.1
"""Times the speed of a request from which that is said, too."""
LEAST_WORK = 50_000_000
"""Bytes of work space from which it is named."""
THOUSAND_GB = 999_500_000_000


def fit_line(fit: Fit) -> str:
    """Whether all weights and the caches fit on the GPUs, in bytes, and what does if not."""
    room, memory = fit.room, fit.room.memory
    assert memory is not None, "a room that was measured"
    context = f"a context of {fit.context:,} tokens" if fit.context else "the trace's own lengths"
    work = f", {_gb(memory.work)} of work space" if memory.work > LEAST_WORK else ""
    several = memory.gpus > 1
    gpu = f"each of {memory.gpus} GPUs" if several else "the GPU"
    where = "on the fullest GPU " if several else ""
    sizes = (
        f"{where}{_gb(memory.weights)} of weights, {_gb(memory.kv)} of KV cache at {context}{work};"
    )
    sizes += f" {gpu} has {_gb(memory.limit)}"
    if room.fits:
        return _fitting(fit, memory, sizes)
    ways, has = [], ENGINES.get(fit.program, ANY)
    if room.on_cpu and (has.some_layers or room.fewest_on_cpu == room.layers):
        layers = (
            f"the experts of {room.fewest_on_cpu} of {counted(room.layers, 'layer')} on the CPU"
        )
        ways.append(f"with {layers}")
    if room.slots:
        ways.append(f"with {room.slots} of {room.local} experts a layer in slots")
    if room.on_host and not ways:
        ways.append(f"with {counted(room.on_host, 'whole layer')} on the CPU")
    needs = "" if has.ways else f" {_without_host(fit)}"
    from_drive = f", with {_gb(room.drive)} of experts on the drive alone" if room.drive else ""
    return f"Does not fit: {sizes}. It does {', or '.join(ways)}{from_drive}.{needs}"


def _fitting(fit: Fit, memory: Memory, sizes: str) -> str:
    """What fits on the GPUs, which a server may not take all of."""
    share, flag = share_of(fit.program), MEMORY_SHARES.get(fit.program)
    way = f", with {fit.laid_out}" if fit.laid_out else ""
    if flag is None or memory.needed <= share * memory.limit:
        return f"Fits{way}: {sizes}."
    taken = f"of which {fit.program} is taken to use {100 * share:.0f} % ({flag}), so that it does"
    taken += " not load"
    remedy = "take one GPU more, fewer bits a weight, or less context"
    return f"Fits hardly{way}: {sizes}, {taken}; {remedy}."


def _without_host(fit: Fit) -> str:
    """What GPUs an engine needs that has all experts on them."""
    memory = fit.room.memory
    assert memory is not None, "a room that was measured"
    least = memory.needed if fit.least is None else fit.least
    least = int(least / share_of(fit.program))
    count = -(-least * memory.gpus // memory.limit)
    larger = f"{counted(memory.gpus, 'GPU')} with {_gb(least)}{' each' * (memory.gpus > 1)}"
    return f"With all experts on GPUs it takes {larger}, or {max(count, 2)} of these at least."


def _gb(amount: int) -> str:
    return f"{amount / 1e9:,.3g} GB" if amount < THOUSAND_GB else f"{amount / 1e9:,.0f} GB"


def told(advice: Advice) -> list[str]:
    """What fits, how fast, where, what limits it, and what would help most."""
    own = [*_speed(advice), *_spread(advice), *_placement(advice), limited(advice)]
    return [*own, *moves(advice), *upgrade(advice), *left_out(advice)]


def answered(advice: Advice) -> list[RenderableType]:
    """The sentences, then the tables."""
    tables = [choices_table(advice)] if len(advice.scored) > 1 else []
    tables += [upgrades_table(advice)] if advice.gains else []
    return [*(Text(line) for line in (*told(advice), *_evidence(advice))), *tables]


def _speed(advice: Advice) -> Iterator[str]:
    best, context = advice.best, advice.fit.context
    at = "" if context is None else f" at a context of {context:,} tokens"
    other = next((one for one in advice.varied if one.of == CONTEXT and one.throughput), None)
    shorter = f", {number(other.throughput)} with the trace's own" if other else ""
    yield f"Speed: {number(best.throughput)} {advice.unit}{_each(best)}{at}{shorter}."
    yield from ranges(advice)
    yield from choice_depends(advice)


def _each(best: Scored) -> str:
    """What a request gets, where several share the speed."""
    tpot = best.summary.get("mean_tpot_ms")
    one = 1e3 / tpot if tpot else 0.0
    shared = one and (best.throughput or 0.0) > SHARED * one
    return f" ({number(one)} a request)" if shared else ""


def _spread(advice: Advice) -> Iterator[str]:
    """How the work is spread over GPUs, and what other ways reach."""
    if not advice.layouts:
        return
    first, *others = advice.layouts
    told = ", ".join(f"{one.words} {number(one.throughput)}" for one in others)
    yield f"GPUs: {first.words}, {number(first.throughput)} {advice.unit}; {told}."


def _placement(advice: Advice) -> Iterator[str]:
    best, fit = advice.best, advice.fit
    if advice.room.fits:
        several = advice.room.memory is not None and advice.room.memory.gpus > 1
        yield f"Placement: everything on the GPU{'s' * several}."
        return
    yield f"Placement: {place_of(best, fit)}{_in_host(advice)}."
    yield from drive(advice)
    native = not fit.engine or best.choice.miss in advice.native
    if (beyond := advice.beyond) is not None and best.throughput:
        what = f"{place_of(beyond, fit)}, {number(beyond.throughput)} {advice.unit}"
        ratio = (beyond.throughput or 0.0) / best.throughput
        ends = ended(advice.over_ends(beyond))
        has = f"With a cache of experts, which {fit.program} does not have"
        yield f"{has}: {what}, x {ratio:.2f}{ends}."
    elif not native:
        yield f"{fit.program} itself has no cache of experts: this is what one in it would bring."
    yield from _change(advice)
    other = advice.next_best
    if beyond is None and other is not None:
        yield f"Next: {other.choice.words}, {number(other.throughput)} {advice.unit}."


def _change(advice: Advice) -> Iterator[str]:
    """What a change that is offered to the engine would bring, where that is more than the best."""
    one, best = advice.pending, advice.best.throughput
    if one is None or not one.throughput or not best or one.throughput <= best:
        return
    ratio = one.throughput / best
    yield (
        f"With pull request 27861 of llama.cpp, in no release: {one.slots} slots a layer, misses on"
        f" the CPU and copied behind it, {number(one.throughput)} {advice.unit}, x {ratio:.2f}"
        f"{ended(advice.over_ends(one))}."
    )


def _in_host(advice: Advice) -> str:
    """What the best choice takes of the host's memory, all of which may not be free."""
    memory, taken = advice.room.memory, advice.best.summary.get("host_memory_bytes")
    return f", in {_gb(taken)} of the host's {_gb(memory.host)}" if memory and taken else ""


def place_of(one: Scored, fit: Fit) -> str:
    """Where a choice has the experts, with the flag of the software that says so."""
    layers = one.choice.layers
    if layers:
        flag, model = "", load_model(fit.model)
        if one.choice.miss == ON_HOST:
            if fit.program in STOCK:  # which counts the output as a layer
                flag = f" (-ngl {len(model.layers) + 1 - layers})"
            return f"the first {counted(layers, 'layer')} on the CPU as wholes{flag}"
        if fit.program in STOCK:  # counts the layers without experts before them, too
            flag = f" (--n-cpu-moe {model.moe_layers[layers - 1].index + 1})"
        return f"the experts of the first {counted(layers, 'layer')} on the CPU{flag}"
    if one.summary.get("storage_path") and not one.summary.get("host_memory_bytes"):
        return f"room for {one.slots} experts a layer in the one memory, the others on the drive"
    return f"{one.slots} slots a layer on the GPU, misses: {one.choice.words}"


def _evidence(advice: Advice) -> Iterator[str]:
    for line in advice.assumed:
        yield f"assumed: {line}"
    if advice.best.choice.layers or is_tight(advice.fit):
        fit = advice.fit
        yield f"note: memory: {own_buffers(fit.program, fit.reserved_tokens)}: {MORE_LAYERS}"
    for line in advice.fit.shared:
        yield f"note: memory: {line}"
    yield from (line for line in trust(advice) if line not in _said(advice.assumed))


def _said(assumed: Iterable[str]) -> set[str]:
    """The run's notes that a question's assumptions have said: of the model's formats."""
    kind = "format: "
    told = [line.removeprefix(kind) for line in assumed if line.startswith(kind)]
    return {f"note: model: weights are {line}" for line in told}


def is_tight(fit: Fit) -> bool:
    """Whether all fits, but may not beside buffers of software that says no share of memory."""
    memory = fit.room.memory
    if memory is None or not fit.room.fits or fit.program in MEMORY_SHARES:
        return False
    return memory.limit - memory.needed < SPARE


def command_lines(advice: Advice) -> Iterator[str]:
    """The line by which the software runs the best choice, and what it leaves open; nothing where
    no engine's command lines are known for it.
    """
    from moesim.experiment.engine_commands import command_of

    assert advice.file is not None, "an answer has its experiment's file"
    with suppress(InputError):  # software of no engine
        found = command_of(load_experiment(advice.file, alone=True).experiment, advice.fit.engine)
        yield from found.notes
        if found.text is not None:
            yield f"engine: {found.text}"
        else:
            yield f"engine: none, {found.engine} cannot run this"


def comments(advice: Advice) -> Iterator[str]:
    """What the written experiment says of itself."""
    yield f"The best of 'moesim advise': {advice.best.choice.words}."
    yield fit_line(advice.fit)
    for line in advice.assumed:
        yield f"assumed: {line}"


def machine(hardware: str) -> str:
    """A machine's name, for a sentence."""
    return machine_words(hardware) if is_choice(hardware) else Path(hardware).stem
