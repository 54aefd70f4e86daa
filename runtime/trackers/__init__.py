"""Experiment trackers: TensorBoard, Weights & Biases, MLflow and a script's own classes."""
