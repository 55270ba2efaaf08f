"""The network as a MONAI bundle, for `python -m monai.bundle run`.

The bundle needs an installed fedrad, which supplies the network's class and the reading chain.
"""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import torch

from fedrad.models.network import ResNet
from fedrad.models.record import ModelRecord
from fedrad.system.folders import make_folder

SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
"""MONAI's schema of metadata.json."""


def write_bundle(
    network: ResNet, record: ModelRecord, readme: str, folder: Path, *, reader: str
) -> None:
    """Write a bundle according to MONAI's specification.

    The files are `configs/metadata.json`, `configs/inference.json`, `models/model.pt` and
    `docs/README.md`.

    Parameters
    ----------
    network
        The trained network.
    record
        Its record.
    readme
        Content of `docs/README.md`.
    folder
        Where to write.
    reader
        Dotted name of the MONAI transform that reads a radiograph as at the hospitals.
    """
    for name in ("configs", "models", "docs"):
        make_folder(folder / name)
    _write(bundle_metadata(record), folder / "configs" / "metadata.json")
    _write(bundle_inference(record, reader), folder / "configs" / "inference.json")
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    (folder / "docs" / "README.md").write_text(readme, encoding="utf-8")


def bundle_metadata(record: ModelRecord) -> dict[str, Any]:
    """Content of `metadata.json`: versions, purpose, shapes and, under `fedrad`, the record."""
    outcomes = ", ".join(record.outputs)
    size = record.model.size
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported from the experiment {record.name}"},
        "monai_version": importlib.metadata.version("monai"),
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": importlib.metadata.version("numpy"),
        "required_packages_version": {
            "fedrad": record.fedrad,
            "pytorch-ignite": "0.5.0",
            "fire": "0.7.0",
        },
        "name": record.name,
        "task": f"Estimate {outcomes} from one frontal chest radiograph",
        "description": f"{record.model.backbone}, fine-tuned by several hospitals with fedrad "
        "without sharing images. Its outputs are raw logits: `fedrad.calibration` holds for each "
        "outcome intercept and slope of calibrated ones and the prevalence they are meant for. "
        "The installed fedrad supplies the network's class and reads the files.",
        "authors": f"the hospitals of the experiment {record.name}",
        "copyright": "of the hospitals that trained it",
        "intended_use": record.use,
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "modality": "DX",
                    "num_channels": 1,
                    "spatial_shape": [size, size],
                    "dtype": "float32",
                    "value_range": list(record.value_range),
                    "is_patch_data": False,
                    "channel_def": {"0": "radiograph, bone bright"},
                }
            },
            "outputs": {
                "pred": {
                    "type": "probabilities",
                    "format": "classes",
                    "num_channels": len(record.outputs),
                    "spatial_shape": [1, len(record.outputs)],
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": {
                        str(k): f"raw logit of {o}" for k, o in enumerate(record.outputs)
                    },
                }
            },
        },
        "fedrad": record.model_dump(mode="json"),
    }


def bundle_inference(record: ModelRecord, reader: str) -> dict[str, Any]:
    """Content of `inference.json`. It reads the files in `dataset_dir` and writes
    `predictions.csv` into `output_dir`, with a line for each file and a raw logit per outcome.
    `reader` is the transform that reads them."""
    return {
        "imports": ["$import os", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "ckpt_path": "$@bundle_root + '/models/model.pt'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "datalist": "$sorted(f.path for f in os.scandir(@dataset_dir) if f.is_file())",
        "network_def": {
            "_target_": "fedrad.models.network.ResNet",
            "settings": {
                "_target_": "fedrad.models.settings.ModelSettings",
                **record.model.model_dump(mode="json"),
            },
            "outputs": len(record.outputs),
        },
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {
                    "_target_": reader,
                    "keys": "image",
                    **record.model.input.model_dump(),
                    "chain": record.reading_chain,
                }
            ],
        },
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': file} for file in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 8,
            "shuffle": False,
            "num_workers": 0,
        },
        "inferer": {"_target_": "SimpleInferer"},
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": "@ckpt_path",
                "load_dict": {"model": "@network"},
                "map_location": "@device",
            },
            {
                "_target_": "ClassificationSaver",
                "output_dir": "@output_dir",
                "batch_transform": "$lambda batch: [item['image'].meta for item in batch]",
                "output_transform": "$lambda output: [item['pred'] for item in output]",
            },
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "val_handlers": "@handlers",
        },
        "run": ["$@evaluator.run()"],
    }


def _write(values: dict[str, Any], file: Path) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
