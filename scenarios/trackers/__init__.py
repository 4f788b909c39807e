"""Finished records where people already look: TensorBoard and MLflow, imported on use only."""
