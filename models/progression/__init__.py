"""Disease progression simulated by progressive image editing (PIE), and what generates it.

`settings` imports no torch. `iteration` is the method, whatever the generator behind it.
"""
