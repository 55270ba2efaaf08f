"""The network as ONNX. The file is checked: onnxruntime must reproduce PyTorch's logits."""

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxscript  # noqa: F401 - PyTorch's exporter needs it; fail early if it is missing
import torch

from fedrad.models.network import ResNet
from fedrad.models.record import ModelRecord
from fedrad.models.weight_files import WeightsError

OPSET = 18
"""Version of the ONNX operator set."""
TOLERANCE = 1e-4
"""Largest allowed difference between logits; relative for logits beyond ±1."""


def write_onnx(network: ResNet, record: ModelRecord, file: Path) -> None:
    """Write the network with input `images` (N, 1, size, size) float32, for any N, and output
    `logits` (N, outputs).

    The metadata of the file hold the record as JSON, as in model.safetensors. Raises WeightsError
    as `check_onnx` does.
    """
    network = network.to("cpu").eval()
    size = record.model.size
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice for authors of exporters
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
    """Raise WeightsError if the logits of onnxruntime and PyTorch differ by more than TOLERANCE, in
    batches of one and of three images of noise."""
    size = network.settings.size
    difference = max(_difference(network, file, _noise(count, size)) for count in (1, 3))
    if not difference <= TOLERANCE:
        raise WeightsError(
            f"{file.name}: onnxruntime's logits differ from PyTorch's by {difference:.2g}, more "
            f"than {TOLERANCE:g}: export with --no-onnx, and tell fedrad's authors"
        )


def _difference(network: ResNet, file: Path, images: torch.Tensor) -> float:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (onnx_logits,) = session.run(["logits"], {"images": images.numpy()})
    with torch.inference_mode():
        logits = network(images).numpy()
    return float((np.abs(logits - onnx_logits) / np.maximum(1, np.abs(logits))).max())


def _noise(count: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 512 * torch.randn(count, 1, size, size, generator=generator).clamp(-2, 2)
