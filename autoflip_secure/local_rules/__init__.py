"""Rules of local training: FedProx's proximal term, FedLEx's scaling by the landscape, FedSpa's
masks that move. One rule a file.

A rule sees weights and gradients, never data; how it is obeyed is the trainers' business
(:mod:`autoflip_secure.training.ruled`).
"""
