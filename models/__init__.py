"""The network and how it learns. Knows nothing of federation, hospitals or Flower."""
