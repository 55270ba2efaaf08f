"""A trained model used on the hospital's own images; nothing is sent."""
