"""Simulated progressions of phantoms, whose severity is known, compared with simpler edits.

    python benchmarks/progression.py generator --out DIR --until 40      # continues if run again
    python benchmarks/progression.py readers --out DIR
    python benchmarks/progression.py choose --out DIR       # strength and guidance, on 12 patients
    python benchmarks/progression.py measure --out DIR       # strength 0.5, guidance 7.5
    python benchmarks/progression.py speed --out DIR

Images are lungs at 64 pixels. 600 patients train the generator. 600 others train the readers, which
are a classifier of the outcome and a regressor of severity. 40 others without the outcome are
tested, and 200 others with it are the real images. The region is the phantoms' true lung mask. PIE
is compared with PIE towards the absent outcome, PIE without guidance, a line towards the mean image
of patients with the outcome, and noise. The last two move as far within the region as PIE does at
each step.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from progression_phantoms import PhantomCohort, cohort

from fedrad.models.augment import switched_off
from fedrad.models.examples import Examples
from fedrad.models.network import ResNet
from fedrad.models.progression.iteration import simulate_progression
from fedrad.models.progression.measures import (
    gain_towards_later,
    kendall_trends,
    kernel_inception_distance,
    monotone_share,
)
from fedrad.models.progression.memorisation import memorisation, sample_images
from fedrad.models.progression.network import Denoiser
from fedrad.models.progression.settings import GeneratorSettings
from fedrad.models.progression.training import denoising_losses, train_generator
from fedrad.models.schedule import Schedule
from fedrad.models.settings import ModelSettings, ProgressionSettings, RecipeSettings
from fedrad.models.training import features, score, train_round

CPU = torch.device("cpu")
SETTINGS = GeneratorSettings(channels=(32, 64, 96), patch=2, learning_rate=2e-3, local_epochs=8)
READER = ModelSettings(backbone="resnet18", width=0.25, weights="random", size=64)
RECIPE = RecipeSettings(
    preset="full",
    batch_size=32,
    learning_rates={"head": 3e-3, "backbone": 3e-3},
    augmentation=switched_off("rotation", "zoom"),
)
CYCLE = 40
"""Rounds of one learning-rate cycle; training goes on with another."""
WORSE = 0.3
"""Severity gained by the real later image."""


def examples(of: PhantomCohort) -> Examples:
    return Examples(of.images, of.labels)


# Training


def generator(arguments: argparse.Namespace) -> None:
    """Train, or continue to train, until a round; the state after it is saved."""
    network, done = open_generator(arguments.out)
    training, held_out = examples(cohort(600, seed=1)), examples(cohort(60, seed=2))
    for round_ in range(done, arguments.until):
        started = time.perf_counter(), time.process_time()
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):  # half the time
            figures = train_generator(
                network, training, round_ % CYCLE, CYCLE, seed=round_, device=CPU
            )
        wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
        loss = denoising_losses(network, held_out, device=CPU, draws=4).mean()
        torch.save({"round": round_ + 1, "state": network.state_dict()}, arguments.out / "g.pt")
        print(
            f"round {round_ + 1}: loss {figures.loss:.4f}, held out {loss:.4f}, {wall:.0f} s "
            f"({cpu:.0f} s of processor, {figures.steps} steps)",
            flush=True,
        )


def open_generator(out: Path) -> tuple[Denoiser, int]:
    torch.manual_seed(0)
    network = Denoiser(SETTINGS, 1, 64)
    if not (out / "g.pt").is_file():
        return network, 0
    kept = torch.load(out / "g.pt")
    network.load_state_dict(kept["state"])
    return network.eval(), kept["round"]


def readers(arguments: argparse.Namespace) -> None:
    """Train the classifier and the regressor."""
    training, held_out = cohort(600, seed=11), cohort(200, seed=12)
    rounds = 14
    for name in ("classifier", "regressor"):
        torch.manual_seed(5)
        network = ResNet(READER, 1)
        if name == "classifier":
            for round_ in range(rounds):
                train_round(
                    network,
                    examples(training),
                    Schedule(RECIPE, rounds),
                    round_,
                    seed=round_,
                    device=CPU,
                )
            found = score(network, held_out.images, device=CPU)[:, 0]
            positive = held_out.labels[:, 0] == 1
            auroc = (found[positive][:, None] > found[~positive]).mean()
            print(f"classifier: AUROC {auroc:.3f} on 200 others")
        else:
            regress(network, training, rounds)
            found = score(network, held_out.images, device=CPU)[:, 0]
            r = np.corrcoef(found, held_out.severities)[0, 1]
            error = np.abs(found - held_out.severities).mean()
            print(f"regressor: r {r:.3f}, mean error {error:.3f} on 200 others")
        torch.save(network.state_dict(), arguments.out / f"{name}.pt")


def regress(network: ResNet, training: PhantomCohort, rounds: int) -> None:
    """Least squares on severities; each patient is drawn at four more, from none to all."""
    rng = np.random.default_rng(0)
    images, severities = [training.images], [training.severities]
    for _ in range(2):
        drawn = rng.uniform(0, 1, len(training.patients))
        images.append(np.stack([p.film(s) for p, s in zip(training.patients, drawn, strict=True)]))
        severities.append(drawn)
    x = torch.from_numpy(np.concatenate(images).astype(np.float32)).unsqueeze(1)
    y = torch.from_numpy(np.concatenate(severities).astype(np.float32))
    steps = rounds * (len(x) // 32)
    optimizer = torch.optim.AdamW(network.parameters())
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    network.train()
    draws = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(x), (32,), generator=draws)
        optimizer.zero_grad()
        (network(x[rows])[:, 0] - y[rows]).square().mean().backward()
        optimizer.step()
        cycle.step()
    network.eval()


def reader(out: Path, name: str) -> ResNet:
    network = ResNet(READER, 1)
    network.load_state_dict(torch.load(out / f"{name}.pt"))
    return network.eval()


# Edits


def negatives(count: int, seed: int) -> tuple[PhantomCohort, NDArray[np.float32]]:
    """Patients without the outcome, and their lungs."""
    both = cohort(2 * count, seed)
    rows = np.flatnonzero(both.labels[:, 0] == 0)
    some = PhantomCohort(
        [both.patients[k] for k in rows],
        both.images[rows],
        both.labels[rows],
        both.severities[rows],
    )
    return some, np.stack([p.mask() for p in some.patients]).astype(np.float32)


def read(network: ResNet, steps: NDArray[np.float32]) -> NDArray[np.float64]:
    """A reader's output for trajectories (M, N + 1, 64, 64)."""
    flat = steps.reshape(-1, 64, 64).astype(np.float16)
    return score(network, flat, device=CPU)[:, 0].reshape(steps.shape[:2])


def choose(arguments: argparse.Namespace) -> None:
    """How severity moves by strength and guidance, on patients who are not tested."""
    network, done = open_generator(arguments.out)
    regressor = reader(arguments.out, "regressor")
    some, masks = negatives(12, seed=31)
    start = read(regressor, some.images[:, None]).mean()
    print(f"after round {done}; read severity, from {start:.2f}")
    for strength in (0.05, 0.1, 0.2, 0.3, 0.5):
        for guidance in (1.0, 3.0, 7.5):
            ends = []
            for to in (1.0, 0.0):
                settings = ProgressionSettings(
                    images=5,
                    strength=strength,
                    steps=max(20, round(2 / strength)),
                    guidance=guidance,
                )
                steps = simulate_progression(
                    network, some.images, np.array([to]), settings, device=CPU, mask=masks
                )
                ends.append(read(regressor, steps).mean(axis=0))
            words = "; ".join(" ".join(f"{v:.2f}" for v in end[1:]) for end in ends)
            print(f"strength {strength}, guidance {guidance}: towards {words} away", flush=True)


def ways(
    arguments: argparse.Namespace,
    network: Denoiser,
    some: PhantomCohort,
    masks: NDArray[np.float32],
) -> dict[str, NDArray[np.float32]]:
    """Trajectories of each method of editing."""
    settings = ProgressionSettings(
        strength=arguments.strength, steps=arguments.steps, guidance=arguments.guidance
    )
    started = time.process_time()
    found = {
        "PIE": simulate_progression(
            network, some.images, np.array([1.0]), settings, device=CPU, mask=masks
        )
    }
    cost = (time.process_time() - started) / len(some.images)
    print(
        f"PIE: {cost:.1f} s of processor an image, {settings.images} edits of "
        f"{settings.edit_steps} steps"
    )
    found["to the opposite class"] = simulate_progression(
        network, some.images, np.array([0.0]), settings, device=CPU, mask=masks
    )
    unguided = settings.model_copy(update={"guidance": 0.0})
    found["unguided"] = simulate_progression(
        network, some.images, np.array([1.0]), unguided, device=CPU, mask=masks
    )
    size = np.sqrt((((found["PIE"] - found["PIE"][:, :1]) * masks[:, None]) ** 2).mean((2, 3)))
    training = cohort(600, seed=1)
    mean = training.images[training.labels[:, 0] == 1].astype(np.float32).mean(0)
    rng = np.random.default_rng(0)
    directions = {
        "line to the class mean": (mean - some.images.astype(np.float32))[:, None],
        "noise": rng.normal(size=found["PIE"].shape).astype(np.float32),
    }
    for name, direction in directions.items():
        inside = direction * masks[:, None]
        unit = inside / np.sqrt((inside**2).mean((2, 3), keepdims=True))
        moved = some.images[:, None] + size[:, :, None, None] * unit
        found[name] = moved.clip(-1024, 1024).astype(np.float32)
    return found


def measure(arguments: argparse.Namespace) -> None:
    """Print the table."""
    network, done = open_generator(arguments.out)
    classifier, regressor = (reader(arguments.out, n) for n in ("classifier", "regressor"))
    some, masks = negatives(40, seed=21)
    positives = cohort(400, seed=22)
    real = positives.images[positives.labels[:, 0] == 1]
    print(
        f"generator after round {done}, strength {arguments.strength}, "
        f"guidance {arguments.guidance}"
    )
    found = ways(arguments, network, some, masks)
    later = np.stack(
        [p.film(min(1.0, s + WORSE)) for p, s in zip(some.patients, some.severities, strict=True)]
    ).astype(np.float32)
    found["the real later image"] = np.stack([some.images.astype(np.float32), later], axis=1)
    of_real = features(classifier, real, device=CPU)
    own = features(classifier, some.images, device=CPU)
    apart = np.linalg.norm(own[:, None] - own[None], axis=2)
    apart = np.median(apart[~np.eye(len(own), dtype=bool)])
    print(
        "| way | logit gained | monotone | τ logit | severity gained | τ severity | own image "
        "(others = 1) | recognised | KID to real positives | outside | nearer to later image |"
    )
    print("|" + " --- |" * 11)
    kid = kernel_inception_distance(own, of_real)
    print(
        f"| no edit | | | | | | 0 | {recognised(some.images[:, None], some, masks):.0%} | "
        f"{kid:.3f} | 0 | 0 |"
    )
    for name, steps in found.items():
        logits, severity = read(classifier, steps), read(regressor, steps)
        last = features(classifier, steps[:, -1].astype(np.float16), device=CPU)
        outside = np.abs((steps[:, -1] - steps[:, 0]) * (masks == 0)).sum() / (masks == 0).sum()
        nearer = gain_towards_later(steps[:, -1], steps[:, 0], later)
        print(
            f"| {name} | {interval(logits[:, -1] - logits[:, 0])} | {monotone_share(logits):.0%} | "
            f"{interval(kendall_trends(logits))} | {interval(severity[:, -1] - severity[:, 0])} | "
            f"{interval(kendall_trends(severity))} | "
            f"{np.median(np.linalg.norm(last - own, axis=1)) / apart:.2f} | "
            f"{recognised(steps, some, masks):.0%} | "
            f"{kernel_inception_distance(last, of_real):.3f} | "
            f"{outside:.1f} | {interval(nearer)} |",
            flush=True,
        )
    np.savez_compressed(arguments.out / "films.npz", **found)
    drawn = sample_images(
        network, 40, seed=1, device=CPU, condition=np.array([[k % 2] for k in range(40)])
    )
    training, held_out = cohort(600, seed=1).images, cohort(200, seed=2).images
    print(json.dumps({"memorisation": str(memorisation(drawn, training, held_out))}))


def recognised(steps: NDArray, some: PhantomCohort, masks: NDArray[np.float32]) -> float:
    """Share of last edits whose lungs are nearer to the same patient with real disease than to any
    other patient. It measures whether the anatomy is preserved."""
    drawn = np.stack([p.film(0.6) for p in some.patients]).astype(np.float32)
    last = steps[:, -1].astype(np.float32)
    distances = [
        [(((a - b) * m) ** 2).sum() for b in drawn] for a, m in zip(last, masks, strict=True)
    ]
    return float((np.argmin(distances, axis=1) == np.arange(len(last))).mean())


def interval(values: NDArray[np.floating]) -> str:
    """Mean over patients with a 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(2000, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{values.mean():.2f} [{low:.2f}, {high:.2f}]"


def speed(arguments: argparse.Namespace) -> None:
    """Processor time for a training step, and for a denoising step of an image."""
    network, _ = open_generator(arguments.out)
    training = examples(cohort(64, seed=1))
    started = time.process_time()
    steps = train_generator(network, training, 0, 1, seed=0, device=CPU).steps
    print(
        f"training: {(time.process_time() - started) / steps:.2f} s a step of {SETTINGS.batch_size}"
    )
    settings = ProgressionSettings(images=2, steps=20, mask="none")
    started = time.process_time()
    simulate_progression(network, training.images[:16], np.array([1.0]), settings, device=CPU)
    passes = 16 * 2 * settings.edit_steps * 2
    print(f"editing: {(time.process_time() - started) / passes * 1e3:.1f} ms a pass and image")


def main() -> None:
    """Run one stage."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    stages = {f.__name__: f for f in (generator, readers, choose, measure, speed)}
    parser.add_argument("stage", choices=stages)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--until", type=int, default=40)
    parser.add_argument("--strength", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, default=7.5)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    stages[arguments.stage](arguments)


if __name__ == "__main__":
    main()
