"""Using a trained model on the hospital's own images; nothing is sent."""
