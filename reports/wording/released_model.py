"""What may be said of the privacy of one model that leaves a run, in the file that it leaves in."""

from __future__ import annotations

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.study.privacy import proven_sentences

_NO_LEDGER = "no privacy mechanism: nothing is proven about what this model reveals of the data it was trained on"
_INITIAL = (
    "The initial weights come from the seed and from the code that makes the model, before the first round; the "
    "ledger of the run does not count them, and says nothing about that code (it may load weights that were trained "
    "before). Anybody who has them may find the seed by trying seeds, and with it everything that the guarantees of "
    "the run assume to be secret: batches and cohorts, and the noise too unless its source is the system."
)
_COUNTED = (
    "The ledger of the run counts the global model of every round and its mask as released, so this one costs "
    "nothing more: which round it is from follows from models that are counted and from the test data, which are "
    "assumed to need no protection."
)
_ALONE = (
    "This covers this run alone: for anybody who has other models that were trained on the same data, or this one "
    "because its result was the best of several runs, the sum of theirs counts (autoflip-secure budget)."
)
_SEED = "Noise follows from the seed of the run: nothing is claimed against anybody who knows or finds the seed."


def privacy_statement(record: RunRecord, which: str) -> str:
    """What is proven about the initial, best or final model of a run, against whom, and under which conditions."""
    if record.privacy is None:
        return _NO_LEDGER
    if which == "initial":
        return _INITIAL
    seeded = record.config["privacy"].get("noise_source") != "system"
    return " ".join([_COUNTED, *proven_sentences(record.privacy), _ALONE, *([_SEED] if seeded else [])])
