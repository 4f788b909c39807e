"""AutoFLIP and what evaluates it: agreement-scored federated pruning under bad clients."""

__version__ = "0.1.0"
