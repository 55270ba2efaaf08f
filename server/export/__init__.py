"""A finished model for others: safetensors, ONNX, MONAI bundle, model card."""
