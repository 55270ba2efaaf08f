"""The schedule: the published recipe, over rounds, and the same for every site."""

import itertools
from math import isclose

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedrad.models.schedule import Schedule, one_cycle, trainable_blocks
from fedrad.models.settings import BLOCKS, PRESETS, STAGES, RecipeSettings, Thaw

PUBLISHED_30 = 10 * ["probe"] + 2 * ["probe"] + 4 * ["layer4"] + 6 * ["layer3"] + 8 * ["layer2"]
"""Goedicke-Fritz et al. 2025, by hand: 10 rounds of probe, then E = 20 with layer4 from
⌊0.1·20⌋ = 2, layer3 from ⌊0.3·20⌋ = 6 and layer2 from ⌊0.6·20⌋ = 12."""

WITHOUT_PROBE_30 = 3 * ["probe"] + 6 * ["layer4"] + 9 * ["layer3"] + 12 * ["layer2"]
"""E = 30: layer4 from 3, layer3 from 9, layer2 from 18."""

ABLATION = {  # preset: (stages of 30 rounds, CutMix probability)
    "probe+progressive+cutmix": (PUBLISHED_30, 0.5),
    "probe+progressive": (PUBLISHED_30, 0.0),
    "progressive+cutmix": (WITHOUT_PROBE_30, 0.5),
    "progressive": (WITHOUT_PROBE_30, 0.0),
    "full": (30 * ["all"], 0.0),
    "probe": (30 * ["probe"], 0.0),
}


def stages(schedule: Schedule) -> list[str]:
    return [schedule.stage(round_) for round_ in range(schedule.rounds)]


@pytest.mark.parametrize("preset", ABLATION)
def test_each_row_of_the_ablation_is_laid_out_as_published(preset: str) -> None:
    expected, cutmix = ABLATION[preset]
    recipe = RecipeSettings(preset=preset)
    assert stages(Schedule(recipe, 30)) == expected
    assert recipe.cutmix == cutmix


def test_every_preset_is_a_row_of_the_ablation() -> None:
    assert set(PRESETS) == set(ABLATION)


def test_the_probe_is_ten_of_thirty_rounds() -> None:
    schedule = Schedule(RecipeSettings(), 30)
    assert (schedule.probe_rounds, schedule.main_rounds) == (10, 20)
    assert [schedule.in_probe(round_) for round_ in range(30)] == 10 * [True] + 20 * [False]
    assert schedule.last_stage == "layer2"


@pytest.mark.parametrize(
    ("main_rounds", "first_rounds"),
    [(10, (1, 3, 6)), (20, (2, 6, 12)), (30, (3, 9, 18)), (100, (10, 30, 60)), (4, (0, 1, 2))],
)
def test_blocks_thaw_at_the_floor_of_their_share(
    main_rounds: int, first_rounds: tuple[int, ...]
) -> None:
    laid_out = stages(Schedule(RecipeSettings(probe=0), main_rounds))
    assert tuple(laid_out.index(block) for block in ("layer4", "layer3", "layer2")) == first_rounds


def test_a_share_that_binary_fractions_miss_still_thaws_on_time() -> None:
    """0.29 · 100 is 28.999999999999996 in floating point; the paper's arithmetic gives 29."""
    recipe = RecipeSettings(probe=0, thaw=Thaw(layer4=0.29, layer3=0.29, layer2=0.58))
    laid_out = stages(Schedule(recipe, 100))
    assert (laid_out.index("layer3"), laid_out.index("layer2")) == (29, 58)


def test_a_block_that_thaws_at_the_very_end_never_thaws() -> None:
    recipe = RecipeSettings(thaw=Thaw(layer4=0.1, layer3=0.3, layer2=1.0))
    assert Schedule(recipe, 30).last_stage == "layer3"


def test_the_stem_and_layer1_stay_frozen_unless_nothing_is() -> None:
    moved = {stage: set(trainable_blocks(stage)) for stage in STAGES}
    assert moved == {
        "probe": {"head"},
        "layer4": {"head", "layer4"},
        "layer3": {"head", "layer4", "layer3"},
        "layer2": {"head", "layer4", "layer3", "layer2"},
        "all": set(BLOCKS),
    }


shares = st.floats(0, 1)
thaws = st.tuples(shares, shares, shares).map(
    lambda three: Thaw(**dict(zip(("layer4", "layer3", "layer2"), sorted(three), strict=True)))
)
recipes = st.builds(
    RecipeSettings, probe=shares, thaw=thaws, freezing=st.sampled_from(["progressive", "none"])
)


@given(recipes, st.integers(1, 200))
def test_a_stage_never_shrinks_and_is_the_same_for_every_site(
    recipe: RecipeSettings, rounds: int
) -> None:
    """A site lays the schedule out from the recipe as it came over the wire."""
    try:
        schedule = Schedule(recipe, rounds)
    except ValueError:
        return
    laid_out = stages(schedule)
    moved = [set(trainable_blocks(stage)) for stage in laid_out]
    assert all(before <= after for before, after in itertools.pairwise(moved))
    assert schedule.last_stage == laid_out[-1]
    assert sum(schedule.in_probe(round_) for round_ in range(rounds)) == schedule.probe_rounds
    at_a_site = Schedule(RecipeSettings.model_validate_json(recipe.model_dump_json()), rounds)
    assert stages(at_a_site) == laid_out


@given(recipes, st.integers(1, 60), st.floats(0, 1))
def test_every_trainable_block_has_a_rate_between_zero_and_its_peak(
    recipe: RecipeSettings, rounds: int, share: float
) -> None:
    try:
        schedule = Schedule(recipe, rounds)
    except ValueError:
        return
    position = share * rounds  # up to and with the end of the last round
    for block in trainable_blocks(schedule.stage(min(int(position), rounds - 1))):
        assert 0 < schedule.learning_rate(block, position) <= 1e-3


@pytest.mark.parametrize(
    ("recipe", "rounds", "words"),
    [
        (RecipeSettings(), 0, "at least 1"),
        (RecipeSettings(), -3, "rounds = -3"),
        (RecipeSettings(), 1, "no round for the linear probe"),
        (RecipeSettings(probe=0.01), 30, "no round for the linear probe"),
        (RecipeSettings(probe=0.99), 30, "no round for the main part"),
        (RecipeSettings(probe=0), 3, "layer4 and layer3 would thaw in the same of 3"),
        (RecipeSettings(probe=0, thaw=Thaw(layer4=0, layer3=0.6, layer2=0.7)), 5, "layer3 and"),
        (RecipeSettings(thaw=Thaw(layer4=1, layer3=1, layer2=1)), 30, "no block ever thaws"),
    ],
)
def test_too_few_rounds_for_the_recipe_are_refused(
    recipe: RecipeSettings, rounds: int, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Schedule(recipe, rounds)


def test_blocks_with_the_same_share_thaw_together() -> None:
    recipe = RecipeSettings(probe=0, thaw=Thaw(layer4=0.5, layer3=0.5, layer2=0.5))
    assert stages(Schedule(recipe, 2)) == ["probe", "layer2"]


@pytest.mark.parametrize("round_", [-1, 30])
def test_a_round_outside_the_experiment_has_no_stage(round_: int) -> None:
    with pytest.raises(ValueError, match="not in 0 … 29"):
        Schedule(RecipeSettings(), 30).stage(round_)


@pytest.mark.parametrize(("preset", "rounds"), [("probe+progressive+cutmix", 30), ("full", 12)])
@pytest.mark.parametrize("steps", [3, 20])
def test_rate_and_momentum_of_every_group_and_step_are_pytorchs(
    preset: str, rounds: int, steps: int
) -> None:
    """The whole table of the main part beside one AdamW over all groups under OneCycleLR with
    PyTorch's defaults, its peak put at step 0.3·T and its end at step T."""
    schedule = Schedule(RecipeSettings(preset=preset), rounds)
    published = {"head": 1e-3, "layer4": 5e-4, "layer3": 2.5e-4, "layer2": 1e-4}
    if preset == "full":
        published = {block: 1e-3 if block == "head" else 2.5e-4 for block in BLOCKS}
    total = schedule.main_rounds * steps
    optimizer = torch.optim.AdamW(
        [{"params": [torch.nn.Parameter(torch.ones(1))]} for _ in published]
    )
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        list(published.values()),
        total_steps=total + 1,
        pct_start=(0.3 * total + 1) / (total + 1),
    )
    for step in range(total):
        position = schedule.probe_rounds + step / steps
        for block, group in zip(published, optimizer.param_groups, strict=True):
            assert schedule.learning_rate(block, position) == pytest.approx(group["lr"], rel=1e-6)  # type: ignore[arg-type]
            assert schedule.momentum(position) == pytest.approx(group["betas"][0], rel=1e-9)
        optimizer.step()
        cycle.step()


def test_the_probe_has_adamws_usual_momentum() -> None:
    assert Schedule(RecipeSettings(), 30).momentum(9.9) == 0.9


def torch_one_cycle(peak: float, total_steps: int, pct_start: float) -> list[float]:
    """PyTorch's learning rate at each step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        peak,
        total_steps=total_steps,
        pct_start=pct_start,
        anneal_strategy="cos",
        div_factor=25,
        final_div_factor=1e4,
        cycle_momentum=False,
    )
    rates = []
    for _ in range(total_steps):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        if len(rates) < total_steps:
            scheduler.step()
    return rates


@pytest.mark.parametrize("steps", [20, 100, 420])
def test_one_cycle_is_pytorchs_at_corresponding_steps(steps: int) -> None:
    """PyTorch counts steps from 0, so its warm-up ends at step 0.3·T - 1 and its cycle at T - 1,
    where ours, continuous, has them at progress 0.3 and 1. Each part is mapped linearly."""
    top, last = 0.3 * steps - 1, steps - 1
    for step, rate in enumerate(torch_one_cycle(5e-4, steps, 0.3)):
        progress = 0.3 * step / top if step <= top else 0.3 + 0.7 * (step - top) / (last - top)
        assert isclose(one_cycle(progress, 5e-4, 0.3), rate, rel_tol=1e-9)


@given(st.integers(2, 200), st.floats(0.05, 0.95))
def test_one_cycle_is_pytorchs_with_the_end_as_a_step_of_its_own(steps: int, warmup: float) -> None:
    """The other way round: at progress s/T ours equals PyTorch's step s of T + 1 with its peak
    put at step warmup·T, which is `pct_start = (warmup·T + 1)/(T + 1)`."""
    expected = torch_one_cycle(1e-3, steps + 1, (warmup * steps + 1) / (steps + 1))
    ours = [one_cycle(step / steps, 1e-3, warmup) for step in range(steps + 1)]
    assert ours == pytest.approx(expected, rel=1e-6, abs=1e-15)


def test_read_at_the_same_share_of_the_cycle_the_two_differ_by_less_as_steps_grow() -> None:
    """What a site really does: rate at step/T. The published 20 epochs have some 300 steps."""

    def largest(steps: int) -> float:
        theirs = torch_one_cycle(1.0, steps, 0.3)
        return max(abs(one_cycle(s / steps, 1.0, 0.3) - r) for s, r in enumerate(theirs))

    assert largest(300) < 0.02
    assert largest(3000) < 0.002


def test_a_block_enters_at_the_current_point_of_the_one_cycle_all_follow() -> None:
    schedule = Schedule(RecipeSettings(), 30)
    peaks = {"head": 1e-3, "layer4": 5e-4, "layer3": 2.5e-4, "layer2": 1e-4}
    for block, peak in peaks.items():
        assert schedule.learning_rate(block, 10 + 0.3 * 20) == pytest.approx(peak)  # type: ignore[arg-type]
        for position in (10.0, 12.0, 15.9, 22.0, 29.999):
            share = schedule.learning_rate("head", position) / 1e-3
            assert schedule.learning_rate(block, position) == pytest.approx(share * peak)  # type: ignore[arg-type]


def test_the_probe_runs_at_a_constant_rate() -> None:
    schedule = Schedule(RecipeSettings(), 30)
    assert {schedule.learning_rate("head", p) for p in (0.0, 4.2, 9.999)} == {1e-3}
    assert schedule.learning_rate("head", 10.0) == pytest.approx(1e-3 / 25)


def test_a_recipe_of_nothing_but_probe_keeps_that_rate_to_its_end() -> None:
    assert Schedule(RecipeSettings(preset="probe"), 4).learning_rate("head", 4.0) == 1e-3


def test_full_fine_tuning_has_one_rate_for_the_backbone() -> None:
    schedule = Schedule(RecipeSettings(preset="full"), 30)
    rates = {block: schedule.learning_rate(block, 9.0) for block in BLOCKS}
    assert rates.pop("head") == pytest.approx(1e-3)
    assert list(rates.values()) == pytest.approx(5 * [2.5e-4])
