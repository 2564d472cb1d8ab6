"""A clock that the test moves, and an engine that moves it: what is measured is then known to the nanosecond."""


class SimulatedClock:
    def __init__(self, lateness_ns=0):
        self.now, self.lateness_ns, self.waits = 1_000, lateness_ns, 0

    def now_ns(self):
        return self.now

    def wait_until_ns(self, moment_ns):
        self.waits += 1
        assert moment_ns > self.now, "one only waits for what lies ahead"
        self.now = moment_ns + self.lateness_ns


class SimulatedEngine:
    """Takes `seconds`, a number or a function of the call's index, on a SimulatedClock."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds, self.calls = clock, seconds, 0

    def __call__(self):
        seconds = self.seconds(self.calls) if callable(self.seconds) else self.seconds
        self.calls += 1
        self.clock.now += round(seconds * 1e9)
