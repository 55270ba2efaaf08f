"""Export of a finished model: safetensors, ONNX, MONAI bundle, model card."""
