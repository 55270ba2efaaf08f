"""One training batch: the drawn units, the loss, CutMix and FedProx."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.training import CPU, NAN, cohort, network
from torch.nn import functional

from fedrad.models import training
from fedrad.models.augment import switched_off
from fedrad.models.augment.cutmix import Mixed, cutmix
from fedrad.models.examples import Views
from fedrad.models.optimizer import Gradients, Targets, masked_loss
from fedrad.models.schedule import Schedule
from fedrad.models.settings import RecipeSettings
from fedrad.models.training import _mix, balanced_order, train_round

# The loss


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-30, 30), st.sampled_from([0.0, 1.0])), min_size=1))
def test_the_loss_is_binary_cross_entropy(pairs: list[tuple[float, float]]) -> None:
    """-ln p of a positive, -ln(1 - p) of a negative, with p the logistic of the logit."""
    logits, labels = (torch.tensor(column)[:, None] for column in zip(*pairs, strict=True))
    expected = np.mean([np.logaddexp(0, -z if y else z) for z, y in pairs])
    assert masked_loss(logits, labels).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert torch.allclose(
        masked_loss(logits, labels), functional.binary_cross_entropy_with_logits(logits, labels)
    )


def test_an_unknown_outcome_is_neither_counted_nor_learnt_from() -> None:
    labels = torch.tensor([[1.0, NAN], [NAN, 0.0], [0.0, 1.0], [NAN, NAN]])
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(1), requires_grad=True)
    known = ~labels.isnan()
    loss = masked_loss(logits, labels)
    assert torch.allclose(
        loss, functional.binary_cross_entropy_with_logits(logits[known], labels[known])
    )
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.equal(logits.grad != 0, known)


def test_a_batch_without_a_known_outcome_teaches_nothing() -> None:
    logits = torch.ones(3, 2, requires_grad=True)
    loss = masked_loss(logits, torch.full((3, 2), NAN))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(3, 2))  # type: ignore[arg-type]


# The order


def shares(labels: NDArray[np.float32], draws: int = 40_000) -> NDArray[np.float64]:
    """Share of the draws that each unit gets."""
    order = balanced_order(labels, draws, torch.Generator().manual_seed(1))
    assert order.shape == (draws,)
    return np.bincount(order, minlength=len(labels)) / draws


def column(*values: float) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)[:, None]


@pytest.mark.parametrize("positives", [1, 5, 25, 49])
def test_both_classes_are_drawn_alike_however_rare(positives: int) -> None:
    labels = column(*(float(i < positives) for i in range(50)))
    drawn = shares(labels)
    of_positives = drawn[:positives].sum()
    assert of_positives == pytest.approx(0.5, abs=0.01)  # four standard deviations
    assert drawn[:positives] == pytest.approx(0.5 / positives, abs=0.01)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_single_class_is_drawn_evenly(value: float) -> None:
    assert shares(column(*[value] * 4)) == pytest.approx(0.25, abs=0.01)


def test_units_without_a_known_outcome_are_not_drawn() -> None:
    assert shares(column(1, NAN, 0, 0, NAN)) == pytest.approx([0.5, 0, 0.25, 0.25, 0], abs=0.01)


def test_with_several_outcomes_a_unit_gathers_its_chances_in_each() -> None:
    """One positive and three negatives of the first outcome, one and one of the second."""
    labels = np.array([[1, 1], [0, NAN], [0, 0], [0, NAN], [NAN, NAN]], dtype=np.float32)
    expected = np.array([1 / 4 + 1 / 4, 1 / 12, 1 / 12 + 1 / 4, 1 / 12, 0])
    assert shares(labels) == pytest.approx(expected, abs=0.01)


tables = st.integers(1, 4).flatmap(
    lambda outcomes: st.lists(
        st.lists(st.sampled_from([0.0, 1.0, NAN]), min_size=outcomes, max_size=outcomes),
        min_size=1,
        max_size=30,
    )
)


@given(tables)
@settings(deadline=None, max_examples=60)
def test_every_class_of_every_outcome_has_its_part_of_the_draws(table: list[list[float]]) -> None:
    """However rare, and however many labels are missing: at least 1/(K·C), K being the outcomes
    that are known at all and C the classes of this one."""
    labels = np.array(table, dtype=np.float32)
    known = ~np.isnan(labels)
    if not known.any():
        return
    drawn = shares(labels, 20_000)
    outcomes = known.any(axis=0).sum()
    assert drawn[~known.any(axis=1)].sum() == 0
    for outcome in labels.T:
        classes = [outcome == value for value in (0, 1) if (outcome == value).any()]
        for of_class in classes:
            assert drawn[of_class].sum() > 1 / (outcomes * len(classes)) - 0.02


def test_a_cohort_without_any_known_outcome_cannot_be_trained_on() -> None:
    with pytest.raises(ValueError, match="no unit has a known outcome"):
        balanced_order(np.full((3, 2), NAN, dtype=np.float32), 8, torch.Generator())


@given(st.integers(0, 2**31 - 1), st.integers(1, 40))
@settings(deadline=None)
def test_an_order_is_repeated_by_its_seed(seed: int, draws: int) -> None:
    labels = column(1, 0, 0, NAN, 1)
    first, again = (
        balanced_order(labels, draws, torch.Generator().manual_seed(seed)) for _ in range(2)
    )
    assert np.array_equal(first, again)
    assert len(first) == draws
    assert set(first.tolist()) <= {0, 1, 2, 4}


# CutMix


class Brightness(torch.nn.Module):
    """Stands for the frozen blocks: the mean of each image, which shows what it was given."""

    def outputs(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3)) / 1024


def mix(probability: float, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Targets]:
    """Images, labels, and what the trainable blocks and the loss are given."""
    examples = cohort(6)
    labels = torch.from_numpy(examples.labels)
    views = Views(examples, RecipeSettings(), CPU)
    images, generator = views.raw(np.arange(6)), torch.Generator().manual_seed(seed)
    inputs, targets = _mix(images, labels, views, Brightness(), probability, generator)  # type: ignore[arg-type]
    return images, labels, inputs, targets


def test_a_mixed_batch_is_learnt_with_both_labels_by_the_area_of_each() -> None:
    images, labels, inputs, ((first, share), (second, rest)) = mix(1.0, 4)
    generator = torch.Generator().manual_seed(4)
    torch.rand((), generator=generator)  # the draw that decides for CutMix
    mixed = cutmix(images, labels, generator)
    pasted = (mixed.images != images).any(0)[0]
    assert rest == pytest.approx(pasted.float().mean().item())
    assert (share, rest) == (mixed.share, 1 - mixed.share)
    assert 0 < share < 1
    assert torch.equal(first, labels)
    assert torch.equal(second, mixed.other_labels)
    assert torch.equal(inputs, Brightness().outputs(mixed.images))


def test_the_loss_of_two_labels_is_the_mean_by_their_share() -> None:
    net = network()
    net.fc.dropout = 0.0
    net.train_blocks(("head",), batchnorm_moves=False)
    inputs, labels = (
        torch.randn(6, net.fc.in_features),
        torch.tensor([0, 1, 1, 0, NAN, 1.0])[:, None],
    )
    targets = [(labels, 0.3), (labels.flip(0), 0.7)]
    loss = Gradients(net, ("head",), RecipeSettings()).compute(inputs, targets)
    logits = net.fc(inputs)
    expected = 0.3 * masked_loss(logits, labels) + 0.7 * masked_loss(logits, labels.flip(0))
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    gradient = net.fc.weight.grad.clone()  # type: ignore[union-attr]
    net.fc.weight.grad = None
    expected.backward()  # type: ignore[no-untyped-call]
    assert torch.allclose(gradient, net.fc.weight.grad, rtol=1e-5, atol=1e-8)  # type: ignore[arg-type]


def test_without_cutmix_the_labels_count_whole() -> None:
    images, labels, inputs, ((targets, share),) = mix(0.0, 4)
    assert share == 1
    assert torch.equal(targets, labels)
    assert torch.equal(inputs, Brightness().outputs(images))


def test_the_probe_is_trained_without_cutmix(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = []
    monkeypatch.setattr(training, "cutmix", lambda *given: mixed.append(1) or cutmix(*given))
    schedule = Schedule(RecipeSettings(cutmix=1.0), 30)
    train_round(network(), cohort(16), schedule, 9, seed=1, device=CPU)
    assert not mixed
    train_round(network(), cohort(16), schedule, 10, seed=1, device=CPU)
    assert len(mixed) == 2


def test_what_cutmix_draws_does_not_depend_on_augmentation_or_fixed_views(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether a batch is mixed, and how much of it: over two rounds of eight batches each."""
    shares: list[float] = []

    def watched(*given: object) -> Mixed:
        mixed = cutmix(*given)  # type: ignore[arg-type]
        shares.append(mixed.share)
        return mixed

    monkeypatch.setattr(training, "cutmix", watched)
    drawn = []
    for changed in ({}, {"augmentation": switched_off("flip")}, {"views": 2}):
        schedule = Schedule(RecipeSettings.model_validate({"batch_size": 2, **changed}), 30)
        for seed in (1, 2):
            train_round(network(), cohort(16), schedule, 10, seed=seed, device=CPU)
        drawn.append(shares.copy())
        shares.clear()
    assert drawn[0] == drawn[1] == drawn[2]
    assert 0 < len(drawn[0]) < 16


# FedProx


def test_the_proximal_term_is_half_mu_times_the_squared_distance() -> None:
    """Loss and gradient beside the closed form μ/2·‖w - w₀‖² and μ·(w - w₀), Li et al. 2020."""
    net, inputs = network(), torch.randn(4, 64)
    net.fc.dropout = 0.0
    net.train_blocks(("head",), batchnorm_moves=False)
    targets = [(torch.tensor([[0.0], [1.0], [1.0], [NAN]]), 1.0)]
    received = net.fc.weight.detach().clone()
    plain, proximal = (Gradients(net, ("head",), RecipeSettings(proximal=mu)) for mu in (0.0, 0.3))
    assert proximal.compute(inputs, targets) == plain.compute(inputs, targets)  # not moved yet
    with torch.no_grad():
        net.fc.weight += 0.5 * torch.randn_like(received)
    without = plain.compute(inputs, targets)
    gradient = net.fc.weight.grad.clone()  # type: ignore[union-attr]
    moved = net.fc.weight.detach() - received
    expected = without + 0.3 / 2 * moved.square().sum().item()
    assert proximal.compute(inputs, targets) == pytest.approx(expected, rel=1e-5)
    assert torch.allclose(net.fc.weight.grad, gradient + 0.3 * moved, rtol=1e-4, atol=1e-6)  # type: ignore[arg-type]


def test_a_strong_proximal_term_holds_a_site_by_what_it_received() -> None:
    def way(mu: float) -> float:
        net = network()
        before = {k: v.clone() for k, v in net.named_parameters()}
        recipe = RecipeSettings(preset="full", proximal=mu, local_epochs=20)
        train_round(net, cohort(32), Schedule(recipe, 10), 3, seed=1, device=CPU)
        return sum((v - before[k]).square().sum().item() for k, v in net.named_parameters()) ** 0.5

    assert way(10.0) < 0.7 * way(0.0)
