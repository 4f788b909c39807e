"""Rules of local training: FedProx's proximal term, FedLEx's scaling by the landscape. One rule a file.

A rule sees weights and gradients, never data; how it is obeyed is the trainers' business
(:mod:`autoflip_secure.training.ruled`).
"""
