"""The network as ONNX, written only if onnxruntime computes PyTorch's logits from it."""

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxscript  # noqa: F401 - PyTorch's exporter needs it: better to know at once
import torch

from fedrad.models.network import ResNet
from fedrad.models.record import ModelRecord
from fedrad.models.weight_files import WeightsError

OPSET = 18
"""ONNX operator set of the file."""
TOLERANCE = 1e-4
"""Largest difference of a logit, relative for logits beyond 1."""


def write_onnx(network: ResNet, record: ModelRecord, file: Path) -> None:
    """Write `images` (N, 1, size, size) float32 -> `logits` (N, outputs), N free.

    The record stands in the file's metadata as JSON, as in model.safetensors. Raises what
    `check_onnx` raises.
    """
    network = network.to("cpu").eval()
    size = record.model.size
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice to those who write exporters
        torch.onnx.export(
            network,
            (_noise(2, size),),
            str(file),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    model = onnx.load(file)
    onnx.helper.set_model_props(model, record.to_metadata())
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, file)
    check_onnx(network, file)


def check_onnx(network: ResNet, file: Path) -> None:
    """Raise WeightsError where onnxruntime's logits of noise, for one image and for three, differ
    from PyTorch's by more than TOLERANCE."""
    size = network.settings.size
    difference = max(_difference(network, file, _noise(count, size)) for count in (1, 3))
    if not difference <= TOLERANCE:
        raise WeightsError(
            f"{file.name}: onnxruntime's logits differ from PyTorch's by {difference:.2g}, more "
            f"than {TOLERANCE:g}: export with --no-onnx, and tell fedrad's authors"
        )


def _difference(network: ResNet, file: Path, images: torch.Tensor) -> float:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(["logits"], {"images": images.numpy()})
    with torch.inference_mode():
        ours = network(images).numpy()
    return float((np.abs(ours - theirs) / np.maximum(1, np.abs(ours))).max())


def _noise(count: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 512 * torch.randn(count, 1, size, size, generator=generator).clamp(-2, 2)
