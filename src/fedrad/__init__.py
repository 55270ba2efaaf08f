"""Hospitals fine-tune one chest-radiograph model together; the radiographs stay at home."""
