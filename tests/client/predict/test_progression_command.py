"""`fedrad-site progression`: a hospital looks at a simulated progression of its own images."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from support.generators import write_generator
from typer.testing import CliRunner

from fedrad.client.commands.main import app
from fedrad.client.images import read_radiograph
from fedrad.client.predict.filmstrip import SIMULATED, EditSequence, _frame, difference_map
from fedrad.deploy.commands.results import READER
from fedrad.models.record import load_model
from fedrad.models.training import score
from fedrad.server.export.export import export

FAST = ("--images", 2, "--steps", 4, "--mask", "none")


@pytest.fixture(scope="module")
def model(finished, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "model"
    export(finished / "out", folder, reader=READER, onnx=False)
    return folder / "model.safetensors"


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return write_generator(tmp_path_factory.mktemp("generator") / "generator.safetensors")


def run(*arguments):
    return CliRunner().invoke(app, ["progression", *map(str, arguments)])


@pytest.fixture(scope="module")
def simulated(finished, model, generator, tmp_path_factory):
    out = tmp_path_factory.mktemp("simulated") / "out"
    files = [finished / "a" / "images" / f"{n:04}.png" for n in (0, 1)]
    result = run(
        *files,
        "--generator",
        generator,
        "--towards",
        "label",
        "--model",
        model,
        "--out",
        out,
        *FAST,
    )
    assert result.exit_code == 0, result.output
    assert "invented pictures" in result.output
    return out, files


def test_every_image_gets_its_pictures(simulated):
    out, _ = simulated
    names = {"filmstrip.png", "animation.gif", "difference.png"} | {
        f"step-{n:02}.png" for n in range(3)
    }
    assert {p.name for p in out.iterdir()} == {"confidence.csv", "simulation.json"} | {
        f"{stem}-{name}" for stem in ("001", "002") for name in names
    }
    with Image.open(out / "001-animation.gif") as animation:
        assert animation.n_frames > 1
    about = json.loads((out / "simulation.json").read_text())
    assert about["settings"]["images"] == 2
    assert "research use only" in about["simulated"]


def frames(path):
    with Image.open(path) as picture:
        for number in range(getattr(picture, "n_frames", 1)):
            picture.seek(number)
            yield picture.convert("RGB")


def test_the_word_stands_in_the_pixels_of_every_picture(simulated):
    """Where the letters are, in white; whatever the image behind them."""
    out, _ = simulated
    for file in (*out.glob("*.png"), *out.glob("*.gif")):
        for frame in frames(file):
            side = frame.height - 40
            font = ImageFont.load_default(max(14, side // 12))
            for left in range(0, frame.width, side):
                letters = Image.new("L", (side, side))
                ImageDraw.Draw(letters).text((6, 6), SIMULATED, 255, font, anchor="lt")
                there = np.asarray(letters) > 250
                assert there.sum() > 200
                seen = np.asarray(frame.crop((left, 0, left + side, side)))[there]
                assert seen.min() > 200, file.name


def test_the_confidence_is_the_classifiers_own(simulated, model):
    out, files = simulated
    with (out / "confidence.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [(r["picture"], r["step"]) for r in rows] == [
        (p, s) for p in ("001", "002") for s in "012"
    ]
    network, record, _ = load_model(model)
    for file, row in zip(files, rows[::3], strict=True):
        assert row["file"] == str(file)
        assert float(row["change"]) == 0
        picture = read_radiograph(file.read_bytes(), record.model.input).picture
        logits = score(network, picture[None], device=torch.device("cpu"))
        assert float(row["logit"]) == pytest.approx(logits[0, 0], abs=1e-3)
        calibrated = record.calibration["label"].probabilities(logits[0, 0])
        assert float(row["probability"]) == pytest.approx(float(calibrated), abs=1e-3)
    assert all(float(r["change"]) > 0 for r in rows if r["step"] != "0")


def test_the_same_seed_gives_the_same_pictures(simulated, finished, model, generator, tmp_path):
    out, files = simulated
    again = tmp_path / "again"
    result = run(
        *files,
        "--generator",
        generator,
        "--towards",
        "label",
        "--model",
        model,
        "--out",
        again,
        *FAST,
    )
    assert result.exit_code == 0
    for file in out.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes(), file.name


def test_a_file_that_cannot_be_used_is_named_and_the_others_go_on(finished, generator, tmp_path):
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(b"no radiograph")
    good = finished / "a" / "images" / "0003.png"
    result = run(
        broken,
        good,
        "--generator",
        generator,
        "--towards",
        "label",
        "--out",
        tmp_path / "out",
        *FAST,
    )
    assert result.exit_code == 1
    assert str(broken) in result.output
    assert (tmp_path / "out" / "002-filmstrip.png").is_file()
    assert not (tmp_path / "out" / "001-filmstrip.png").exists()


def test_an_image_without_lungs_is_left_out_with_a_message(finished, generator, tmp_path):
    result = run(
        finished / "a" / "images" / "0003.png",
        "--generator",
        generator,
        "--towards",
        "label",
        "--out",
        tmp_path / "out",
        "--images",
        1,
        "--steps",
        2,
    )
    assert result.exit_code == 1
    assert "no lungs found" in result.output


def test_what_a_mask_file_leaves_out_stays(finished, generator, tmp_path):
    mask = np.zeros((32, 32), np.uint8)
    mask[:, 16:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    result = run(
        finished / "a" / "images" / "0003.png",
        "--generator",
        generator,
        "--towards",
        "label",
        "--out",
        tmp_path / "out",
        "--images",
        1,
        "--steps",
        2,
        "--outside",
        0,
        "--mask",
        tmp_path / "mask.png",
    )
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "out" / "001-difference.png") as picture:
        change = np.asarray(picture)[60:220]
    assert (change[:, 40:135] == 255).all()
    assert (change[:, 160:250] != 255).any()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--towards", "edema"), "not trained on 'edema'; it knows 'label'"),
        (("--mask", "nowhere.png"), "there is none of this name"),
        (("--strength", 1.5), "strength"),
        (("--steps", 1, "--strength", 0.1), "less than one denoising step"),
        (("--device", "tpu"), "cpu or cuda"),
    ],
)
def test_what_is_impossible_is_refused_before_an_image_is_read(
    finished, generator, tmp_path, arguments, why
):
    result = run(
        finished / "a" / "images" / "0003.png",
        "--generator",
        generator,
        "--out",
        tmp_path / "out",
        "--towards",
        "label",
        *arguments,
    )
    assert result.exit_code == 2
    assert why in result.output.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def refused(finished, generator, out, *more):
    result = run(
        finished / "a" / "images" / "0003.png",
        "--generator",
        generator,
        "--towards",
        "label",
        "--out",
        out,
        *more,
    )
    assert result.exit_code == 2
    return result.output


def test_a_generator_of_one_class_is_refused(finished, tmp_path):
    file = write_generator(tmp_path / "g.safetensors", classes=(False, True))
    assert "one class of it only" in refused(finished, file, tmp_path / "out")


def test_a_generator_of_another_image_than_the_classifiers_is_refused(finished, model, tmp_path):
    file = write_generator(tmp_path / "g.safetensors", size=64)
    output = refused(finished, file, tmp_path / "out", "--model", model)
    assert "pictures of 32 pixels" in output
    assert "64 pixels" in output


def test_a_classifiers_file_is_no_generator(finished, model, tmp_path):
    assert "is no generator" in refused(finished, model, tmp_path / "out")


def test_a_mask_of_another_shape_is_refused(finished, generator, tmp_path):
    Image.new("L", (48, 32)).save(tmp_path / "mask.png")
    output = refused(finished, generator, tmp_path / "out", "--mask", tmp_path / "mask.png")
    assert "48×32 pixels" in output
    assert "32×32" in output


def test_a_folder_that_holds_something_is_not_written_to(finished, generator, tmp_path):
    (tmp_path / "note").touch()
    assert "is there already" in refused(finished, generator, tmp_path)


def test_a_difference_is_red_where_it_became_denser_and_blue_where_less():
    steps = np.zeros((2, 8, 8), np.float32)
    steps[1, :4], steps[1, 6:] = 200, -100
    picture, scale = difference_map(steps)
    colours = np.asarray(picture)
    assert scale == 200
    assert (colours[0, 0] == (255, 0, 0)).all()
    assert (colours[5, 0] == (255, 255, 255)).all()
    assert colours[7, 0, 2] == 255
    assert colours[7, 0, 0] < 255


def test_a_step_is_labelled_in_its_pixels():
    film = EditSequence("x", np.zeros((3, 8, 8), np.float32), "bpd", np.arange(3.0), None)
    assert film.caption(0) == "the image itself\nlogit 0.00"
    assert film.caption(2) == "step 2 towards bpd\nlogit 2.00"
    assert _frame(Image.new("RGB", (512, 512)), "x").width == 512


def test_the_pictures_hold_no_file_name(simulated):
    """Names are in confidence.csv, so that a picture can be shown without one."""
    out, _ = simulated
    for file in (*out.glob("*.png"), *out.glob("*.gif")):
        assert b"0000.png" not in file.read_bytes()
        assert "0000" not in file.name
