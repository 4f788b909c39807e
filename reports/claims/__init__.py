"""The claims of the AutoFLIP paper, each with what this sweep says about it."""
