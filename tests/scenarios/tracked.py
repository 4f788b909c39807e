"""A sweep to track."""

SCENARIO = """
name: tracked
clients: 4
cohort: 3
rounds: 4
evaluate_every: 2
training: {epochs: 1, batch_size: 64}
exploration: {epochs: 1}
data: {kind: digits, train_samples: 120, test_samples: 50}
model: {kind: mlp, hidden: [8]}
attack: {kind: gaussian_noise, sigma: 0.5, scope: 0.25}
seeds: [3, 5]
sweep: {product: {attack.sigma: [0.5, 2], algorithm: [fedavg, autoflip]}}
"""
