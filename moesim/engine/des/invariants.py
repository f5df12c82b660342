"""What must hold in every run (``--check``)."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import numpy as np

from moesim.engine.case import Case
from moesim.engine.outcome import Outcome, Span


class Invariants:
    """Checks one outcome that kept its spans; ``verify`` raises AssertionError with the first
    breach.
    """

    def __init__(self, case: Case, outcome: Outcome) -> None:
        self.case, self.outcome = case, outcome
        self.engines: dict[tuple[int, str], list[Span]] = defaultdict(list)
        for span in outcome.spans:
            self.engines[span.gpu, span.engine].append(span)
        self.copies = [span for span in outcome.spans if span.engine == "copy_in"]

    def verify(self) -> dict[str, float]:
        """Every law, and by how much it was tested."""
        return {
            "engine_spans": self.one_thing_at_a_time(),
            "copies": self.bytes_conserved(),
            "experts_after_their_copy": self.weights_before_kernels(),
            "passes_on_time": self.passes_on_time(),
            "charged_ns": self.every_nanosecond_charged(),
            "passes_without_gaps": self.no_gaps(),
            "utilisation_ns": self.utilisation_law(),
            "mean_copies_in_system": self.littles_law(),
        }

    def one_thing_at_a_time(self) -> int:
        """No engine does two things at once."""
        for (gpu, engine), spans in self.engines.items():
            for before, after in pairwise(sorted(spans, key=lambda s: (s.start_ns, s.end_ns))):
                assert before.end_ns <= after.start_ns, (
                    f"GPU {gpu} {engine}: {before} overlaps {after}"
                )
        return len(self.outcome.spans)

    def bytes_conserved(self) -> int:
        """Every load was copied once, and nothing else but what came with its layer."""
        copies = len(self.copies)
        due = int(self.outcome.counts.copies.sum())
        assert copies == due == self.outcome.copies, f"{copies} copies recorded, {due} due"
        return copies

    def weights_before_kernels(self) -> int:
        """No expert runs before its weights are there, whichever pass had them copied."""
        arrived = {(one.gpu, one.step, one.layer, one.experts): one.end_ns for one in self.copies}
        behind = self._in_background()
        tested = 0
        for kernel in self.outcome.spans:
            if kernel.engine != "compute" or kernel.name != "experts":
                continue
            for expert in kernel.experts.split(","):
                key = (kernel.gpu, kernel.step, kernel.layer, expert)
                assert arrived.get(key, 0) <= kernel.start_ns, f"{kernel} before its weights"
                tested += key in arrived
                for step, end in behind.get((kernel.gpu, kernel.layer, expert), ()):
                    assert step >= kernel.step or end <= kernel.start_ns, (
                        f"{kernel} before its weights"
                    )
        counts = self.outcome.counts
        wasted = int((counts.prefetched - counts.prefetches_used).sum())
        unneeded = int(counts.unneeded.sum())
        assert tested <= len(arrived) - unneeded, "an expert ran that nobody needed"
        later = sum(map(len, behind.values()))
        least = len(arrived) - unneeded - wasted - later
        if self.case.prefetch.every > 1:  # a prefetch may be used in a later pass than its own
            least = 0
        assert tested >= least, "an expert was copied and never run"
        return tested

    def _in_background(self) -> dict[tuple[int, int, str], list[tuple[int, int]]]:
        """By GPU, layer and expert, the pass and the end of copies in the background."""
        found = defaultdict(list)
        if self.case.miss.copies_behind:
            for one in self.copies:
                found[one.gpu, one.layer, one.experts].append((one.step, one.end_ns))
        return found

    def passes_on_time(self) -> int:
        """A GPU begins a pass when its last has ended, or where it had to wait for its instant."""
        starts, ends, passes = self.outcome.starts, self.outcome.ends, self.case.schedule.passes
        earliest = self.case.schedule.begins(0, passes)
        due = np.maximum(np.concatenate((np.zeros_like(ends[:1]), ends[:-1])), earliest[:, None])
        assert (starts == due).all(), f"pass {(starts != due).any(axis=1).argmax()} is not on time"
        return passes

    def every_nanosecond_charged(self) -> int:
        """A GPU's charges, and what it waits between passes, add up to the end of its last one."""
        charged, ends = self.outcome.charges.sum(axis=(0, 2)), self.outcome.ends
        waited = self.outcome.starts.sum(axis=0) - ends[:-1].sum(axis=0)
        assert (charged + waited == ends[-1]).all(), f"{charged} and {waited} of {ends[-1]} ns"
        return int(charged.sum())

    def no_gaps(self) -> int:
        """The spans of a GPU's time tile each pass, and add up to its charges."""
        outcome = self.outcome
        starts, ends, charges = (part.tolist() for part in (outcome.starts, outcome.ends,
                                                            outcome.charges))  # fmt: skip
        spans = {key: group for key, group in self.engines.items() if key[1] == "compute"}
        for gpu in range(self.case.gpus):
            by_step = defaultdict(list)
            for span in spans.get((gpu, "compute"), []):
                by_step[span.step].append(span)
            for step, (begin, end) in enumerate(zip(starts, ends, strict=True)):
                parts = by_step[step]
                edges = [begin[gpu], *(span.end_ns for span in parts)]
                said = f"GPU {gpu} step {step} has a gap"
                assert [*(span.start_ns for span in parts), end[gpu]] == edges, said
                sums = dict.fromkeys(outcome.categories, 0)
                for span in parts:
                    sums[span.category] += span.end_ns - span.start_ns
                assert list(sums.values()) == charges[step][gpu], f"{said} in its charges"
        return len(starts) * self.case.gpus

    def utilisation_law(self) -> int:
        """Busy time of an engine = its jobs x mean service, never more than the run lasts."""
        most = 0
        for (gpu, engine), spans in self.engines.items():
            busy = sum(span.end_ns - span.start_ns for span in spans)
            lasts = self.outcome.duration_ns  # a prefetch may still be copied when the run ends
            within = sum(min(one.end_ns, lasts) - min(one.start_ns, lasts) for one in spans)
            assert 0 <= within <= lasts, f"GPU {gpu} {engine} busy {within} ns of {lasts}"
            if engine == "copy_in" and self.case.links is None:
                prices = self._copy_prices(gpu)
                assert busy == prices, f"GPU {gpu} copied for {busy} ns, priced at {prices} ns"
            most = max(most, busy)
        return most

    def _copy_prices(self, gpu: int) -> int:
        case, counts, total = self.case, self.outcome.counts, 0
        for index, layer in enumerate(case.model.moe_layers):
            if layer.moe is None:
                continue
            experts = [(layer.moe.expert, int(counts.copies[:, index, gpu].sum()))]
            if case.variants is not None:
                came = counts.missed[:, index, gpu].sum(axis=0)
                ahead = counts.prefetched_as[:, index, gpu].sum(axis=0)
                came[: len(ahead)] += ahead
                missed = came.tolist()
                every = zip(case.variants.copied, missed, strict=True)
                experts = [(of_layers[index], number) for of_layers, number in every if of_layers]
            total += sum(case.expert_copy_ns(expert) * number for expert, number in experts)
        return total

    def littles_law(self) -> float:
        """Mean copies in service = arrival rate x mean time in service, counted by events."""
        changes = sorted(
            [(s.start_ns, 1) for s in self.copies] + [(s.end_ns, -1) for s in self.copies]
        )
        area = number = since = 0
        for time, change in changes:
            area, since = area + number * (time - since), time
            number += change
        assert number == 0, f"{number} copies never ended"
        assert area == sum(s.end_ns - s.start_ns for s in self.copies), "Little's law: L = lambda W"
        return area / max(self.outcome.duration_ns, 1)
