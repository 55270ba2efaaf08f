"""Ways to run it: one machine (simulation, demo with phantom hospitals), real sites."""
