"""Records where people already look, while a sweep runs: TensorBoard, MLflow and others, imported on use only."""
