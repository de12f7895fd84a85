"""How a training went: a line for each epoch, and its curves as a picture."""

import io
from collections.abc import Sequence

from matplotlib.figure import Figure

from dfdm_ray.jobs.train.loop import EpochResult


def epoch_line(result: EpochResult, *, epochs: int, seconds_each: float) -> str:
    """Say what an epoch came to.

    Args:
        result: Of the epoch.
        epochs: That are planned.
        seconds_each: What an epoch takes, for the time that is left.
    """
    width = len(str(epochs))
    left_s = (epochs - result.epoch) * seconds_each
    left = f", about {left_s:.0f} s left" if left_s else ""
    return (
        f"epoch {result.epoch:>{width}}/{epochs}: loss {result.train_loss:.3f}, "
        f"accuracy {result.train_accuracy:6.1%}; validation: loss {result.val_loss:.3f}, "
        f"accuracy {result.val_accuracy:6.1%}; rate {result.learning_rate:.1e}, {result.seconds:.1f} s{left}"
    )


def draw_curves(history: Sequence[EpochResult]) -> bytes:
    """Return loss and accuracy of training and validation over the epochs, a PNG file."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    epochs = [result.epoch for result in history]
    loss.plot(epochs, [result.train_loss for result in history], label="training")
    loss.plot(epochs, [result.val_loss for result in history], label="validation")
    accuracy.plot(epochs, [result.train_accuracy for result in history], label="training")
    accuracy.plot(epochs, [result.val_accuracy for result in history], label="validation")
    loss.set(xlabel="epoch", ylabel="cross entropy")
    accuracy.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1))
    for one in (loss, accuracy):
        one.grid(alpha=0.3)
        one.legend()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()
