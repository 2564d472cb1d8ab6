"""stand-in"""

import sys


class ProgressPrinter:
    def __enter__(self):
        return self

    def __exit__(self, *a):
        pass

    def on_step(self, s):
        pass

    def on_epoch(self, e, epochs, network):
        print(
            f"epoch {e.epoch}/{epochs}  loss {e.train_loss:.4f} acc {e.train_accuracy:.4f}  test accuracy {e.test_accuracy:.4f}  {e.examples_per_s:,.0f} examples/s",
            file=sys.stderr,
        )

    def close(self):
        pass
