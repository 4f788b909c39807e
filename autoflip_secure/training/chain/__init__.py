"""Chains of layers trained by a forward and a backward pass written by hand: no ``vmap``, no graph of autograd.

A module is trained like this when it is proven to be such a chain (:mod:`.reading`) and gave autograd's gradients in a
trial (:mod:`.program`); whatever else there is goes through autograd, as before.
"""

from autoflip_secure.training.chain.program import ChainProgram, chain_program

__all__ = ["ChainProgram", "chain_program"]
