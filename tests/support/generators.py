"""Small generators of images."""

import torch

from fedrad.deploy.local.simulation import prepare, simulate
from fedrad.models.progression.network import Denoiser, GeneratorRecord, save_generator
from fedrad.models.progression.settings import GeneratorSettings
from fedrad.models.settings import InputSettings

GENERATOR = """
name = "generator"
task = "progression"
outcomes = ["label"]
seed = 3
[model]
weights = "random"
size = 32
[generator]
channels = [8, 16]
attention = [false, true]
groups = 4
batch_size = 8
learning_rate = 5e-3
samples = 4
[federation]
rounds = 2
[evaluation]
test = 0.4
validation = 0.2
minimum_units = 3
"""


SMALL = GeneratorSettings(channels=(8, 16), attention=(False, True), groups=4)


def write_generator(file, *, size=32, classes=(True, True), reading=None):
    torch.manual_seed(0)
    network = Denoiser(SMALL, 1, size)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    record = GeneratorRecord(
        name="test",
        experiment="0" * 64,
        input=InputSettings(size=size, **(reading or {})),
        outcomes=("label",),
        classes={"label": classes},
        generator=SMALL,
    )
    save_generator(file, network, record)
    return file


def allow_generator(folder):
    text = (folder / "site.toml").read_text()
    (folder / "site.toml").write_text(text + "share_generator = true\n")
    return folder


def run_generator(tmp_path, sites, text=GENERATOR, out="out"):
    (tmp_path / "generator.toml").write_text(text)
    simulate(prepare(tmp_path / "generator.toml", sites, tmp_path / out, state=tmp_path / "state"))
    return tmp_path / out
