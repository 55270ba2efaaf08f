"""Outputs of frozen blocks for a view are computed once; the trained weights stay the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrad.models.activations import ActivationStore, FrozenBlocks
from fedrad.models.examples import Examples, Views
from fedrad.models.network import ResNet, digest
from fedrad.models.schedule import Schedule, frozen_blocks
from fedrad.models.settings import AugmentationSettings, ModelSettings, RecipeSettings
from fedrad.models.streams import Streams
from fedrad.models.training import train_round

CPU = torch.device("cpu")
NARROW = ModelSettings(backbone="resnet18", width=0.125, weights="random", size=32)
LARGE = 2**30
ROUNDS = 6  # two of probe, then head, layer4, layer3, layer2 or the like


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def network(seed: int = 2) -> ResNet:
    torch.manual_seed(seed)
    return ResNet(NARROW, 1)


def cohort(count: int = 12, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    images = rng.uniform(-1024, 1024, (count, 32, 32)).astype(np.float16)
    return Examples(images, (np.arange(count) % 2).astype(np.float32)[:, None])


def recipe(**given: object) -> RecipeSettings:
    return RecipeSettings.model_validate({"views": 3, "batch_size": 4, **given})


class Counted(ResNet):
    """Counts the pictures that pass the stem."""

    passed = 0

    def run(self, blocks, x):  # type: ignore[no-untyped-def]
        self.passed += len(x) * ("stem" in tuple(blocks))
        return super().run(blocks, x)


def trained(
    store: ActivationStore | None,
    settings: RecipeSettings,
    *,
    seed: int = 0,
    examples: Examples | None = None,
) -> tuple[str, int, tuple[str, ...]]:
    """Digest of the weights after all rounds, pictures that passed the stem, adjustments."""
    torch.manual_seed(2)
    net = Counted(NARROW, 1)
    schedule, adjustments = Schedule(settings, ROUNDS), ()
    for round_ in range(ROUNDS):
        figures = train_round(
            net,
            examples or cohort(),
            schedule,
            round_,
            seed=100 * seed + round_,
            device=CPU,
            store=store,
        )
        adjustments += figures.adjustments
    return digest(net.state_dict()), net.passed, adjustments


# Exactly as without


@pytest.mark.parametrize("cutmix", [0.0, 0.5])
@pytest.mark.parametrize("batchnorm", ["shared", "frozen", "local"])
def test_training_from_the_store_gives_the_bits_of_training_without(
    tmp_path: Path, cutmix: float, batchnorm: str
) -> None:
    """Cold, warm, and with no store at all, over all stages, head dropout included."""
    settings = recipe(cutmix=cutmix, batchnorm=batchnorm)
    plain = trained(None, settings)
    cold = trained(ActivationStore(tmp_path, LARGE), settings)
    warm = trained(ActivationStore(tmp_path, LARGE), settings)
    assert plain[0] == cold[0] == warm[0]
    assert warm[1] <= cold[1] < plain[1]
    if not cutmix:
        assert warm[1] == 0
        assert cold[1] <= 12 * 3  # each view once, for all stages


@settings(deadline=None, max_examples=8)
@given(limit=st.integers(0, 400_000))
def test_too_small_a_store_changes_the_time_and_not_the_weights(
    tmp_path_factory: pytest.TempPathFactory, limit: int
) -> None:
    store = ActivationStore(tmp_path_factory.mktemp("store"), limit)
    weights, _, adjustments = trained(store, recipe())
    assert weights == trained(None, recipe())[0]
    on_disk = sum(f.stat().st_size for f in store.folder.rglob("*.npy"))
    assert on_disk == store.used <= limit
    assert bool(adjustments) == store.full or adjustments


def test_a_view_is_the_same_in_any_batch_fold_and_order() -> None:
    examples, few = cohort(), Examples(cohort().images[[7, 3]], cohort().labels[[7, 3]])
    all_views, some = Views(examples, recipe(), CPU), Views(few, recipe(), CPU)
    assert all_views.view(3, 1).key == some.view(1, 1).key
    alone = all_views.image(all_views.view(3, 1))
    together = some.images([some.view(0, 2), some.view(1, 1)])
    assert torch.equal(alone[0], together[1])


def test_views_differ_by_number_seed_image_and_augmentation() -> None:
    examples = cohort()
    keys = [
        Views(examples, settings, CPU).view(row, number).key
        for settings in (
            recipe(),
            recipe(view_seed=1),
            recipe(augmentation=AugmentationSettings(rotation=9)),
        )
        for row in (0, 1)
        for number in (0, 1, 2)
    ]
    assert len(set(keys)) == 18
    first, second = (
        Views(examples, recipe(), CPU).image(Views(examples, recipe(), CPU).view(0, n))
        for n in (0, 1)
    )
    assert not torch.equal(first, second)


def test_every_view_of_the_pool_is_drawn() -> None:
    views = Views(cohort(2), recipe(), CPU)
    drawn, _ = views.draw(np.array([0, 1] * 50), Streams(1))
    assert {v.key for v in drawn} == {views.view(r, n).key for r in (0, 1) for n in range(3)}  # type: ignore[union-attr]


# Reused


def test_another_fold_and_another_row_of_the_ablation_start_warm(tmp_path: Path) -> None:
    """What they share with the first, images and frozen weights, is not computed again."""
    store, everyone = ActivationStore(tmp_path, LARGE), cohort(12)
    all_rows = recipe(cutmix=0.0, local_epochs=6)
    trained(store, all_rows)
    fold = Examples(everyone.images[2:9], everyone.labels[2:9])
    assert trained(store, all_rows, seed=1, examples=fold)[1] <= 3
    without_probe = recipe(preset="progressive", local_epochs=6)
    assert trained(store, without_probe, seed=2)[1] <= 3


def test_other_frozen_weights_are_never_taken_for_these(tmp_path: Path) -> None:
    store, views = ActivationStore(tmp_path, LARGE), Views(cohort(), recipe(), CPU)
    chosen = [views.view(row, 0) for row in range(4)]
    blocks = frozen_blocks("probe")
    first, other = network(), network()
    first.eval()
    other.eval()
    other.layer4[1].bn2.running_mean += 0.01  # the statistics count too
    one = FrozenBlocks(first, blocks, views, store).outputs(chosen)
    two = FrozenBlocks(other, blocks, views, store).outputs(chosen)
    assert not torch.equal(one, two)
    assert torch.equal(two, FrozenBlocks(other, blocks, views).outputs(chosen))


def test_a_later_block_starts_from_an_earlier_one_that_is_stored(tmp_path: Path) -> None:
    store, views = ActivationStore(tmp_path, LARGE), Views(cohort(), recipe(), CPU)
    chosen = [views.view(row, 0) for row in range(4)]
    torch.manual_seed(2)
    net = Counted(NARROW, 1).eval()
    FrozenBlocks(net, frozen_blocks("layer3"), views, store).outputs(chosen)
    assert net.passed == 4
    deeper = FrozenBlocks(net, frozen_blocks("probe"), views, store, {"layer2"})
    outputs = deeper.outputs(chosen)
    assert net.passed == 4
    assert torch.equal(outputs, FrozenBlocks(net, frozen_blocks("probe"), views).outputs(chosen))


# Kept on disk


def test_a_damaged_file_is_computed_anew(tmp_path: Path) -> None:
    settings = recipe(cutmix=0.0)
    expected = trained(ActivationStore(tmp_path, LARGE), settings)[0]
    for file in list(tmp_path.rglob("*.npy"))[::2]:
        file.write_bytes(file.read_bytes()[:100])
    assert trained(ActivationStore(tmp_path, LARGE), settings)[0] == expected


def test_least_recently_used_collections_are_removed_and_those_in_use_stay(tmp_path: Path) -> None:
    array = np.zeros(1000, dtype=np.float32)
    store = ActivationStore(tmp_path, 3 * (array.nbytes + 128))
    for collection in ("old", "new", "now"):
        store.use([collection])
        store.put(collection, "aa", array)
    store.put("now", "bb", array)
    assert store.get("old", "aa") is None or store.get("new", "aa") is None
    assert store.get("now", "aa") is not None
    store.put("now", "cc", array)
    store.put("now", "dd", array)
    assert store.full
    assert store.get("now", "dd") is None
    assert store.get("now", "cc") is not None


def test_fresh_draws_store_nothing(tmp_path: Path) -> None:
    trained(ActivationStore(tmp_path, LARGE), recipe(views=0))
    assert not list(tmp_path.rglob("*.npy"))
