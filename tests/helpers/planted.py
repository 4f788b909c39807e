"""Records that came to a given accuracy, whichever evaluations count."""

from collections.abc import Sequence

from autoflip_secure.records.run import RunRecord


def at(record: RunRecord, accuracy: float) -> RunRecord:
    """The record with this accuracy at every evaluation."""
    rounds = [
        entry if entry.test_accuracy is None else entry.model_copy(update={"test_accuracy": accuracy})
        for entry in record.rounds
    ]
    return record.model_copy(update={"rounds": rounds, "final_accuracy": accuracy})


def moved(record: RunRecord, by: float) -> RunRecord:
    """The record with ``by`` more accuracy at every evaluation."""
    rounds = [
        entry if entry.test_accuracy is None else entry.model_copy(update={"test_accuracy": entry.test_accuracy + by})
        for entry in record.rounds
    ]
    return record.model_copy(update={"rounds": rounds, "final_accuracy": record.final_accuracy + by})


def along(record: RunRecord, accuracies: Sequence[float | None]) -> RunRecord:
    """The record with these accuracies round by round; None: not evaluated. The loss is one minus the accuracy."""
    rounds = [
        entry.model_copy(update={"test_accuracy": accuracy, "test_loss": None if accuracy is None else 1 - accuracy})
        for entry, accuracy in zip(record.rounds, accuracies, strict=True)
    ]
    last = next(accuracy for accuracy in reversed(accuracies) if accuracy is not None)
    return record.model_copy(update={"rounds": rounds, "final_accuracy": last, "final_loss": 1 - last})
