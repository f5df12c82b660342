"""A device and trials that need no torch and whose clock is told what things take."""

from functools import partial

from moesim.calibrate.collect.point import Point


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class FakeDevice:
    kind, name, gpus, threads = "cpu", "Fake CPU (1 thread)", 0, 1
    cache_bytes, memory_bytes = 2**20, 2**34
    pool = None

    def __init__(self, clock):
        self.clock = clock

    def facts(self):
        return {"threads": 1, "multiprocessors": 1}


class FakeTrial:
    """Each call takes ``call_ns(visit)`` of the clock; a visit's preparation ``setup_s``."""

    def __init__(self, device, call_ns, setup_s):
        self.device, self.call_ns = device, call_ns
        device.clock.now += setup_s

    def warm_up(self):
        self.device.clock.now += self.call_ns / 1e9

    def samples(self, count):
        self.device.clock.now += count * self.call_ns / 1e9
        return [self.call_ns] * count


def fake_point(number, call_ns, priority=0, setup_s=0.001, log=None, error=None):
    visits = iter(range(10**6))

    def prepare(device):
        if log is not None:
            log.append(number)
        if error is not None:
            raise error
        now = call_ns(next(visits)) if callable(call_ns) else call_ns
        return FakeTrial(device, now, setup_s)

    return Point({"op": "copy_h2d", "bytes": number}, partial(prepare), priority)
