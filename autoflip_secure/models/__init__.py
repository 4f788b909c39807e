"""What a model is to the engine: a flat vector of named tensors, units that may go, a smaller copy of itself, a cost.

Only this room knows ``torch.nn`` modules by name; whoever needs tensors of a model asks its layout.
"""
