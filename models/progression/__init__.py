"""Simulated disease progression by progressive image editing (PIE), and its generators.

`iteration` is the method, for any diffusion model. `settings` does not import torch.
"""
