"""When everything happens: one layer in time (docs/semantics.md), in nanoseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from .reference_batches import Pass, way_of
from .reference_cache import form_launches
from .reference_copies import DemandCopies, LayerCopies
from .reference_dense import Dense
from .reference_gating import Routed, tokens_of
from .reference_host import Gpu, Host, nearest
from .reference_misses import (
    BEHIND,
    HOST,
    LINK,
    LOAD,
    SKIP,
    SUBSTITUTE,
    Share,
    host_ns,
    launch_ns,
    link_ns,
    of_variant,
)
from .reference_placement import local_experts
from .reference_prefetch import PROMOTED
from .reference_storage import Host as Storage
from .reference_storage_ahead import HostAhead
from .reference_window import HostWindow
from .reference_words import (
    DECODE,
    ENCODE,
    PREDICTION,
    REBALANCING,
    STORAGE,
    UNPACKING,
    Activation,
    Config,
    Layer,
    Model,
    Prices,
    Span,
    Trace,
)

Decide = Callable[[int, int, int, int], list[Activation]]  # (pass, MoE layer, GPU, now)


class Clock(Dense):
    def __init__(self, trace: Trace, model: Model, config: Config, prices: Prices) -> None:
        self.trace, self.model, self.config, self.prices = trace, model, config, prices
        self.gpus = [Gpu() for _ in range(config.gpus)]
        self.host = Host(config)
        self.local = local_experts(model, config)
        uneven = config.gating == "dynamic"
        layers = range(len(model.moe_layers))
        asks = config.senders > 1 or config.kernels == "serial"
        self.missing = [any(config.lacks(model, m, len(x)) for x in self.local) for m in layers]
        if config.reads_layers:  # nothing is looked for
            for m, layer in enumerate(model.moe_layers):
                self.missing[m] &= layer.index >= config.copied_layers
        # whether something waits for the counts, by MoE layer
        self.decided = [config.agrees or (uneven and (asks or one)) for one in self.missing]
        self.needs_decision = any(self.decided)
        ahead = config.prefetch
        self.predicts = ahead.kind != "none" and ahead.cost > 0 and any(self.missing)
        host_decides = config.decide == "host" and self.needs_decision
        self.counts_exchanged = uneven and config.senders > 1
        self.reads = config.software.count_reads if self.counts_exchanged else 1
        if config.execution == "graph" and host_decides:
            raise ValueError("a graph cannot wait for the host's decision: decide on the device")
        self.syncs = 0
        self.spans: list[Span] = []
        self.hosts: list[Storage] = []  # where they do not hold all experts
        self.behind: dict[tuple[int, int], int] = {}  # (layer, GPU) -> end of its last copy
        self.moving = 0  # for so long GPUs wait for experts before the pass
        self.beside = 0  # for so long experts move beside the pass
        self.links_free = 0  # no collective begins before
        self.share: Share = None  # of the pass in the layer at hand
        self.unneeded = 0  # bytes of experts that came with a layer, and no token of the pass chose

    def copy_ns(self, size: int) -> int:
        """The copy of an expert of so many bytes."""
        return self.config.copy_ns(replace(self.model, expert_bytes=size), self.prices)

    def enter(self, layer: Layer) -> None:
        """What the host launches and waits for is the layer's."""
        decided = missing = False
        if layer.moe:
            index = self.model.moe_layers.index(layer)
            decided, missing = self.decided[index], self.missing[index]
        config = replace(self.config, execution=self.execution)
        self.host = Host(config, decided or missing, missing)
        waits = decided and self.config.decide == "host"
        self.syncs = max(self.reads if waits else 0, self.host.synchronisations)

    # --- a pass

    def begin_pass(self, one: Pass) -> list[int]:
        """Each GPU and its host wait until it may start; nobody pays for that, but for the time in
        which the host works on it. When each begins.
        """
        begun = [max(gpu.t, one.not_before - one.host) for gpu in self.gpus]
        for gpu, begins in zip(self.gpus, begun, strict=True):
            gpu.t = gpu.host = max(gpu.t, one.not_before)
            gpu.cursor = begins
            gpu.charge("host", gpu.t)
        if self.beside:
            self.links_free = max(gpu.t for gpu in self.gpus) + self.beside
        return begun

    def run_pass(
        self, one: Pass, routed: dict[int, Routed], decide: Decide
    ) -> tuple[int, int, list[dict[str, int]]]:
        """Start and end of the pass, which has begun, and one row for each (MoE layer, GPU).

        ``decide(pass, MoE layer, GPU, now)`` is asked for the activations when the counts are
        known.
        """
        start, self.step = min(gpu.t for gpu in self.gpus), one.step
        tokens = tokens_of(one, self.config.gpus)
        self.execution, self.padded = self.captured(one, tokens)
        self.whole = [self.streamed(one, g) for g in range(len(self.gpus))]
        software = self.config.software
        blocks = software.blocking and self.config.execution != "graph"
        ahead = software.overlap and not blocks
        self.coming = [
            LayerCopies(self, g, layers if ahead else []) for g, layers in enumerate(self.whole)
        ]
        self.unneeded = 0
        moe_index = {layer.index: i for i, layer in enumerate(self.model.moe_layers)}
        rows: list[dict[str, int]] = []
        for layer in self.model.layers_of(one.phase):
            self.enter(layer)
            before = [(g.t, dict(g.charged)) for g in self.gpus]
            if self.moving:
                for gpu in self.gpus:
                    gpu.t += self.moving
                    gpu.charge(REBALANCING, gpu.t)
                self.moving = 0
            self.attention(layer, one, tokens)
            if not layer.moe:
                continue
            index = moe_index[layer.index]
            self.share = None
            if self.model.varies and self.config.gating == "dynamic":
                self.share = sum(tokens), sum(routed[index].kept)
            theirs = self.moe(layer, index, routed[index], partial(decide, one.step, index))
            for g, gpu in enumerate(self.gpus):
                t, charged = before[g]
                spent = {name: gpu.charged[name] - charged[name] for name in charged}
                rows.append(
                    {
                        "step": one.step,
                        "layer": index,
                        "gpu": g,
                        "tokens": sum(activation.rows for activation in theirs[g]),
                        "distinct_experts": len(theirs[g]),
                        "hits": sum(activation.hit for activation in theirs[g]),
                        "late": sum(activation.late for activation in theirs[g]),
                        "misses": sum(activation.missed for activation in theirs[g]),
                        "host_activations": sum(
                            activation.place in (HOST, BEHIND) for activation in theirs[g]
                        ),
                        "zero_copy_activations": sum(
                            activation.place == LINK for activation in theirs[g]
                        ),
                        "skipped_activations": sum(
                            activation.place == SKIP for activation in theirs[g]
                        ),
                        "substituted_activations": sum(
                            activation.place == SUBSTITUTE for activation in theirs[g]
                        ),
                        "start_ns": t,
                        "end_ns": gpu.t,
                        "stall_ns": spent["waiting_for_weights"],
                        "barrier_ns": spent["waiting_for_gpus"],
                        "cpu_wait_ns": spent["waiting_for_cpu"],
                    }
                )
        for g, gpu in enumerate(self.gpus):
            gpu.t += self.reduced_ns(
                self.present(tokens, g)
            )  # embeddings, of which each GPU has a part
            if one.phase != ENCODE:  # no head in an encode pass
                logits = sum(one.logits(other) for other in self.together(g))
                gpu.t += self.prices.head_ns(logits) if logits else 0
                gpu.t += self.gathered_ns(logits)
                gpu.t += self.prices.sampling_ns(self.tokens_read(one, g))
                gpu.host += self.host.head
            gpu.charge("attention", gpu.t)
            self.drafting(one, g, gpu, tokens)
            self.between_passes(one, g, gpu, tokens)
            # the segment takes the longer of the launches and the GPU's work.
            gpu.t = max(gpu.t, gpu.host)
            gpu.charge("host", gpu.t)
            gpu.host = gpu.t
        return start, max(gpu.t for gpu in self.gpus), rows

    def captured(self, one: Pass, tokens: list[int]) -> tuple[str, int]:
        """How the pass is launched, and to how many tokens every GPU's are padded, 0: to none."""
        if self.config.captured is None:
            return self.config.execution, 0
        decode, others, most = self.config.captured
        fullest = max(self.of_node(tokens, g) for g in range(self.config.gpus))
        execution = decode if one.phase == DECODE else others
        if fullest > most or execution == "eager":
            return "eager", 0
        size, sizes = 0, [1, 2, 4]
        while size < fullest:
            if sizes:
                size = sizes.pop(0)
            else:
                size += 4 if size == 4 else 8 if size < 256 else 16
        return execution, min(size, most)

    def streamed(self, one: Pass, g: int) -> list[int]:
        """The MoE layers, by their number, of which the pass copies all that belongs to the GPU."""
        if way_of(one, self.config) != "whole":
            return []
        runs = self.model.layers_of(one.phase)
        found = []
        for m, layer in enumerate(self.model.moe_layers):
            if layer in runs and self.config.lacks(self.model, m, len(self.local[g])):
                found.append(m)
        return found

    # --- gate to combine

    def moe(
        self,
        layer: Layer,
        index: int,
        routed: Routed,
        decide: Callable[[int, int], list[Activation]],
    ) -> list[list[Activation]]:
        every = range(len(self.gpus))
        gates = [self.gate(layer, g, routed) for g in every]
        gated = [end for end, _, _ in gates]
        permute = [price for _, price, _ in gates]  # of the rows, before dispatch
        unpermute = [price for _, _, price in gates]
        permuted, shared_end = self.beside_the_exchange(layer, routed, permute)
        if not self.config.software.overlap:  # nothing runs beside the shared expert
            gated = shared_end
            for gpu, end in zip(self.gpus, shared_end, strict=True):
                gpu.t = end
        known = self.tell(gated, routed)
        known = [self.synchronise(g, known[g]) for g in every]
        activations = [decide(g, known[g]) for g in every]
        self.read(index, activations, known)
        for activation in [
            activation
            for mine in activations
            for activation in mine
            if activation.place not in (HOST, BEHIND)
        ]:
            activation.rows = (
                0
                if activation.place in (SKIP, SUBSTITUTE)
                else self.config.rows_on_gpu(activation.rows)
            )
        launches = [form_launches(activations[g], self.config) for g in every]
        copies = [DemandCopies(self, index, g, known[g], launches[g]) for g in every]
        if self.config.agrees:
            permuted = shared_end = self.placed(known, shared_end, permute)
        arrived = [max(known[g], permuted[g]) for g in every]
        # dispatch, unless all rows are where their experts are
        ready = arrived if self.config.gathers else self.collective(arrived, routed.dispatched)
        for g, gpu in enumerate(self.gpus):
            gpu.t = max(ready[g], shared_end[g])
            self.wait_for_layer(index, g, copies[g], activations[g])
            self.wait_for_background(index, g, launches[g])
            for launch in launches[g]:
                self.run_launch(layer, index, launch, copies[g])
            self.copy_in_background(index, g, copies[g], activations[g])
            if index in self.coming[g].there:
                self.coming[g].issue(gpu.t)
            copies[g].finish(self.called(g, index, launches[g]), len(launches[g]))
            self.wait_for_host(
                layer, index, ready[g], [t for t in activations[g] if t.place in (HOST, BEHIND)]
            )
            self.end_experts(index, g)
        back = self.gather if self.config.gathers else self.collective
        ended = back([gpu.t for gpu in self.gpus], routed.combined)
        for g, gpu in enumerate(self.gpus):
            gpu.t = ended[g] + unpermute[g] + self.reduced_ns(self.present(routed.tokens, g))
            gpu.charge("dispatch_combine", gpu.t)
            if self.config.prefill != "stream" and self.config.prefetch.kind == "none":
                late = self.config.miss != "background" and gpu.copy_in > gpu.t
                assert not late, "a copy is never still running when its layer ends"
        return activations

    def end_experts(self, index: int, g: int) -> None:
        """Nothing needs the layer's experts in host memory any more."""
        for host in self.hosts:
            if isinstance(host, HostWindow) and g in host.gpus:
                host.ended(index, max(self.gpus[g].t, self.behind.get((index, g), 0)))

    def read(self, index: int, activations: list[list[Activation]], known: list[int]) -> None:
        """What misses want from host memory, GPU by GPU, where that does not hold all."""
        if any(isinstance(host, HostAhead) for host in self.hosts):
            return  # asked when each GPU's layer was decided
        step = next((one.step for mine in activations for one in mine), 0)
        for host in self.hosts:
            for g in host.gpus:
                if index not in self.whole[g]:
                    host.layer(step, index, g, activations[g], known[g])

    def beside_the_exchange(
        self, layer: Layer, routed: Routed, permute: list[int]
    ) -> tuple[list[int], list[int]]:
        """When the rows are permuted and when the shared experts end: they hide the exchanges and
        the copies.
        """
        permuted, shared_end = [], []
        for g, gpu in enumerate(self.gpus):
            tokens = self.present(routed.tokens, g)
            if not self.config.agrees:
                gpu.t += permute[g]
                gpu.charge("gate", gpu.t)
            permuted.append(gpu.t)
            shared_end.append(gpu.t + (self.prices.shared_ns(layer, tokens) if tokens else 0))
            gpu.charge("experts", shared_end[g])
        return permuted, shared_end

    def placed(self, known: list[int], free: list[int], permute: list[int]) -> list[int]:
        """When the rows are in places whose number is known only now."""
        ends = [max(k, f) + p for k, f, p in zip(known, free, permute, strict=True)]
        for gpu, end in zip(self.gpus, ends, strict=True):
            gpu.charge("gate", end)
        return ends

    def wait_for_layer(
        self, index: int, g: int, copies: DemandCopies, activations: list[Activation]
    ) -> None:
        """Where all that belongs to the GPU is copied, nothing starts before it is there."""
        if index not in self.whole[g]:
            return
        gpu, there = self.gpus[g], self.coming[g].there.get(index)
        read = self.coming[g].read.get(index, 0)
        if there is None:
            reads = self.read_whole(index, g, copies.known)
            there = max(copies.issue_one(one) for one in reads)
            read = max(one or 0 for one in reads)
        gpu.t = max(gpu.t, read)
        gpu.charge(STORAGE, read)
        copies.issued = len(self.local[g])
        gpu.t = max(gpu.t, there)
        gpu.charge("waiting_for_weights", gpu.t)
        unneeded = len(self.local[g]) - len(activations)
        self.unneeded += unneeded * self.model.bytes_in(index)

    def read_whole(self, index: int, g: int, now: int) -> list[int | None]:
        """When all that belongs to a GPU is in host memory, of which it asks for it now."""
        for host in self.hosts:
            if g in host.gpus:
                return host.whole(self.step, index, g, self.local[g], now)
        return [None] * len(self.local[g])

    def called(self, g: int, index: int, launches: list[list[Activation]]) -> int:
        """Experts of which the host launches kernels, one by one."""
        local = len(self.local[g])
        if self.config.software.calls_empty and not self.config.lacks(self.model, index, local):
            return local
        return sum(len(launch) for launch in launches)

    def gate(self, layer: Layer, g: int, routed: Routed) -> tuple[int, int, int]:
        """The gate on one GPU: its end, and the prices of permuting the rows, where that comes
        later, and of unpermuting them at the end.
        """
        gpu, prices = self.gpus[g], self.prices
        if self.config.gating == "dynamic":
            tokens, choices = self.gated(routed.tokens, g), routed.choices[g]
            if self.config.gathers:  # those that its attention has
                tokens = self.present(routed.tokens, g)
            price = prices.gate_ns(layer, tokens) if tokens else 0
            permute = unpermute = prices.permute_ns(layer, choices) if choices else 0
        else:  # for the largest sender, on every GPU
            largest = sum(routed.tokens) if self.config.sliced else max(routed.tokens)
            size = (largest, self.model.experts, routed.capacity)
            price = prices.gate_ns(layer, largest)
            if self.config.gating == "tutel":
                kept = routed.choices[g]
                permute = prices.encode_ns(layer, *size, kept)
                unpermute = prices.permute_ns(layer, kept) if kept else 0
            else:  # masks and dispatch product
                permute = prices.masks_ns(layer, *size)
                unpermute = prices.combine_product_ns(layer, *size)
        if not (self.counts_exchanged or self.config.agrees):
            price, permute = price + permute, 0
        if self.config.decide == "device" and self.needs_decision:
            price += prices.decide_ns()
        gpu.t += price
        gpu.charge("gate", gpu.t)
        if self.predicts and self.config.prefetch.when == "layer":
            gpu.t += self.config.prefetch.cost
            gpu.charge(PREDICTION, gpu.t)
        gpu.host += self.host.gate
        return gpu.t, permute, unpermute

    def tell(self, gated: list[int], routed: Routed) -> list[int]:
        """When each GPU knows its counts: gathered, tokens come with their choices."""
        gathers = self.config.gathers
        return self.gather(gated, routed.dispatched) if gathers else self.exchange_counts(gated)

    def exchange_counts(self, gated: list[int]) -> list[int]:
        """4 bytes for each local expert of the receiver, or for the largest count."""
        if not (self.counts_exchanged or self.config.agrees):
            return gated
        told = [1 if self.config.agrees else len(local) for local in self.local]
        every = range(len(self.gpus))
        return self.collective(
            gated, [[0 if s == r else 4 * told[r] for r in every] for s in every]
        )

    def gather(self, arrived: list[int], matrix: list[list[int]]) -> list[int]:
        """Hidden vectors to all GPUs, or back; where attention is split, each has them all."""
        if self.config.group == 1:
            return self.collective(arrived, matrix)
        for gpu in self.gpus:
            gpu.charge("waiting_for_gpus", max(arrived))
        return [max(arrived)] * len(self.gpus)

    def collective(self, arrived: list[int], matrix: list[list[int]]) -> list[int]:
        """GPUs meet: the slowest holds the others. Alone, there is nothing to exchange."""
        if len(self.gpus) == 1:
            return arrived
        start = max(*arrived, self.links_free)
        end = start + self.prices.all_to_all_ns(matrix)
        for gpu in self.gpus:
            gpu.charge("waiting_for_gpus", max(arrived))
            gpu.charge(REBALANCING, start)
            gpu.charge("dispatch_combine", end)
        return [end] * len(self.gpus)

    def synchronise(self, g: int, known: int) -> int:
        """A small D2H copy and a wait, each; returns when the counts are known."""
        if not self.syncs:
            return known
        gpu, software = self.gpus[g], self.config.software
        both = max(known, gpu.host)
        gpu.charge("host", both)
        counts = self.prices.copy_ns(4 * len(self.local[g]), "d2h", software.states_pinned, 1)
        gpu.host = both + self.syncs * (counts + nearest(software.synchronisation_ns))
        gpu.charge("host", gpu.host)
        return gpu.host

    def run_launch(
        self, layer: Layer, index: int, launch: list[Activation], copies: DemandCopies
    ) -> None:
        step, g = launch[0].step, launch[0].gpu
        gpu = self.gpus[g]
        weights = 0
        for activation in launch:
            promoted = activation.late and activation.copy.state == PROMOTED
            if activation.late and not promoted:
                weights = max(weights, activation.copy.end)
            if promoted or (activation.place == LOAD and activation.rule != "layer"):
                start, end = copies.issue(activation)
                weights = max(weights, end)
                self.spans.append(Span(step, index, g, "copy_in", (activation.expert,), start, end))
        linked = (one.read or 0 for one in launch if one.place == LINK)
        weights = max(weights, *linked, 0)
        start = max(gpu.t, weights)  # it starts when the last of its weights is there
        gpu.charge(STORAGE, max((activation.read or 0 for activation in launch), default=0))
        gpu.charge("waiting_for_weights", start)
        served = of_variant(layer, self.config, launch[0].variant)
        rows = [activation.rows for activation in launch]
        kernel = launch_ns(served, rows, self.prices, self.share)
        if self.config.unpacks:  # a part of the kernel's price
            gpu.charge(UNPACKING, start + self.prices.unpacking_ns(served, len(launch)))
        gpu.charge("experts", start + kernel)
        gpu.t = start + max(kernel, link_ns(launch, self.model, self.prices))
        gpu.charge("waiting_for_weights", gpu.t)
        copies.launch_end[launch[0].launch] = gpu.t
        experts = tuple(activation.expert for activation in launch)
        self.spans.append(Span(step, index, g, "compute", experts, start, gpu.t))

    def wait_for_background(self, index: int, g: int, launches: list[list[Activation]]) -> None:
        """What came behind earlier passes may be what the launches need."""
        gpu = self.gpus[g]
        if not launches:
            return
        gpu.t = max(gpu.t, self.behind.pop((index, g), 0))
        gpu.charge("waiting_for_weights", gpu.t)

    def copy_in_background(
        self, index: int, g: int, copies: DemandCopies, activations: list[Activation]
    ) -> None:
        """Nothing of this pass waits for it."""
        for activation in activations:
            if activation.place == BEHIND:
                span = copies.issue(activation)
                self.behind[index, g] = span[1]
                experts = (activation.expert,)
                self.spans.append(Span(activation.step, index, g, "copy_in", experts, *span))

    def wait_for_host(
        self, layer: Layer, index: int, ready: int, activations: list[Activation]
    ) -> None:
        """What the host computes starts when dispatch has ended, beside all launches."""
        if not activations:
            return
        gpu = self.gpus[activations[0].gpu]
        ready = max(ready, *(activation.read or 0 for activation in activations))
        gpu.charge(STORAGE, ready if any(activation.read for activation in activations) else 0)
        computed, up = host_ns(activations, layer, self.model, self.config, self.prices)
        end = self.bring_up(gpu, ready + computed, up)
        experts = tuple(activation.expert for activation in activations)
        self.spans.append(
            Span(activations[0].step, index, activations[0].gpu, "host", experts, ready, end)
        )
        gpu.t = max(gpu.t, end)
        gpu.charge("waiting_for_cpu", gpu.t)

    def bring_up(self, gpu: Gpu, since: int, price: int) -> int:
        """Rows of the host are one more copy of the engine, behind those that it was asked for
        before; copies in the background make way. When they are there.
        """
        if self.config.miss == "background":
            return since + price
        gpu.run_copies(since)
        gpu.copy_in = max(since, gpu.copy_in) + price
        return gpu.copy_in
