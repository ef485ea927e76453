"""The page as a whole: what it says of a run, what it says if something is missing, and that it is harmless."""

import copy
import re
import types

import numpy as np
import pytest

from sas_jax import report
from sas_jax.report import measures, outcome, plots
from sas_jax.results.schema import LatentClasses


@pytest.fixture(scope="module")
def read(read_page):
    """Returns `read(run, **changes)`, which reads the page of a run with changed arguments."""
    return lambda run, **changes: read_page(report.html(**{**run, **changes}))


def with_results(run, **sections):
    results = copy.deepcopy(run["results"])
    for name, value in sections.items():
        results[name] = {**results[name], **value} if isinstance(value, dict) else value
    return results


@pytest.fixture(scope="module")
def page(digits_run, read):
    return read(digits_run)


def row_of(page, identity, arm):
    """Returns the first row of an arm in a part of the page, its cells on one line."""
    inside = page.source.split(f'id="{identity}"')[1] if identity else page.source.split("<h2>Arms")[1]
    rows = type(page)(f"<table>{inside.split('<table', 1)[1].split('>', 1)[1].split('</table>')[0]}</table>").rows
    return next([re.sub(r"\s+", " ", cell).strip() for cell in row] for row in rows if row[0] == arm)


def test_it_opens_with_the_differences(page):
    _, probe, to_random, to_full, knn, *_ = row_of(page, "answer", "sas at 20 %")
    assert (probe, knn) == ("61.2 % 56.1\u201366.1", "59.2 % 54.1\u201364.2")
    assert re.fullmatch(r"\+1\.1 \(\u22126\.\d to \+8\.\d; 1 seed\)", to_random)
    assert re.fullmatch(r"\u221231\.8 \(\u221237\.\d to \u221226\.\d; 1 seed\)", to_full)
    assert "one seed, which cannot show that arms differ" in page.part("reading")
    assert not re.search("ahead|behind", page.text)
    assert page.source.index('id="answer"') < page.source.index("<h2>Arms")


def test_the_arms_table_has_every_number(page):
    row = ["sas at 20 %", "1", "287", "40", "61.2 % 56.1\u201366.1", "59.2 % 54.1\u201364.2", "80", "4.123", "17 s"]
    assert row_of(page, "", "sas at 20 %") == row
    assert row_of(page, "", "untrained")[1:4] == ["\u2013", "0", "0"]
    assert "random: random images" in page.text


def test_what_was_not_held_equal_is_said(digits_run, page, read, make_arm):
    assert "different numbers of steps (80 to 440)" in page.part("reading")
    assert "labels themselves" not in page.part("reading")
    arms = [make_arm("sas", 0.2, 0.6) | {"collapsed": True}, make_arm("random", 0.2, 0.6)]
    other = read(digits_run, results=with_results(digits_run, arms=arms, latent_classes={"method": "labels"}))
    assert "different numbers of steps" not in other.part("reading")
    assert "The outputs of sas at 20 % collapsed" in other.part("reading")
    assert "labels themselves" in other.part("reading")


@pytest.mark.parametrize(("seeds", "said"), [(2, "fewer than 3 seeds"), (3, "Holm's correction")])
def test_the_notes_fit_the_seeds(digits_run, read, make_arm, seeds, said):
    arms = [make_arm(name, 0.2, 0.6, seed) for name in ("sas", "random") for seed in range(seeds)]
    assert said in read(digits_run, results=with_results(digits_run, arms=arms)).part("reading")


def test_what_ran_is_told(page):
    for said in ("1,437 training images", "360 test images", "10 latent classes by kmeans", "cosine similarity",
                 "3 encoders were trained", "1 min 21 s", "jax 0.10.2", "TFRT_CPU_0", "0123abc",
                 "accuracy 0.918"):  # fmt: skip
        assert said in page.text, said
    assert "so far" not in page.text
    assert ["data.image_size", "16"] in page.rows
    folded = next(each for each in page.attributes("details") if each.get("id") == "parameters")
    assert "open" not in folded


def test_a_comparison_under_way_says_how_far_it_is(digits_run, read):
    arms = [["sas", 0.2, 0], ["random", 0.2, 0], ["full", 1.0, 0], ["random", 0.8, 0]]
    page = read(digits_run, config={**digits_run["config"], "arms": arms})
    assert "3 of 4 encoders have been trained so far" in page.text


def test_every_picture_has_a_text_alternative(page):
    images, drawings = page.attributes("img"), page.attributes("svg")
    assert len(images) == 6 * 16
    says = r"image \d+, pick \d+ of \d+ in latent class \d+, gain \u2212?\d+\.\d\d, labelled \d"
    assert all(re.fullmatch(says, image["alt"]) for image in images)
    assert all(image["src"].startswith("data:image/png;base64,") for image in images)
    assert len(drawings) == 7
    assert all(len(drawing["aria-label"]) > 20 and drawing["role"] == "img" for drawing in drawings)


def test_thumbnails_are_the_first_and_last_picks(digits_run, page):
    ranking = digits_run["ranking"]
    shown = [tuple(map(int, re.findall(r"\d+", image["alt"])))[:4] for image in page.attributes("img")]
    for index, pick, size, label in shown:
        assert ranking.classes[index] == label
        assert ranking.position[index] == pick - 1
        assert pick <= 8 or pick > size - 8


def test_budget_and_turning_point_are_marked(page):
    marks = [attributes["class"] for attributes in page.attributes("line") if attributes.get("class")]
    assert marks.count("budget") == 1
    assert marks.count("turning") == 1
    assert "turning point 47 %" in page.text


def test_nothing_is_loaded_and_nothing_runs(page):
    assert not page.attributes("script")
    assert not page.attributes("link")
    assert "http://" not in page.source
    assert "https://" not in page.source
    assert "url(" not in page.source
    assert "@import" not in page.source
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    policy = next(meta["content"] for meta in page.attributes("meta") if meta.get("http-equiv"))
    assert "default-src 'none'" in policy


def test_both_themes_are_styled(page):
    assert "prefers-color-scheme: dark" in page.source
    assert not re.search(r'(?:fill|stroke)="#', page.source), "a colour fixed in a drawing is wrong in one theme"


def test_colours_stand_out_from_their_ground(page):
    def luminance(colour: str) -> float:
        digits = colour if len(colour) == 6 else "".join(digit * 2 for digit in colour)
        linear = [
            value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4
            for value in (int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))
        ]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    themes = re.findall(r":root \{(.*?)\}", page.source, re.DOTALL)
    assert len(themes) == 2
    for theme in themes:
        colours = {name: luminance(value) for name, value in re.findall(r"--(\w+): #(\w+)", theme)}
        for name in ("ink", "soft", *(f"c{at}" for at in range(9))):
            pair = sorted((colours[name], colours["ground"]))
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, name


def test_names_from_outside_are_harmless(digits_run, read):
    attack = '"><script>alert(1)</script><img src=x onerror="alert(2)">'
    results = with_results(
        digits_run,
        dataset={"name": attack, "skipped": [f"{attack}.png: truncated"]},
        latent_classes={"method": attack, "agreement": {attack: 0.5}},
        selection={"objective": attack, "similarity": attack},
        stages={attack: {"wall_seconds": 1.0}},
    )
    results["arms"][1].update(selector=attack, name=attack)
    page = read(
        digits_run,
        results=results,
        config={attack: {attack: attack}},
        environment={attack: [attack], "versions": {attack: attack}},
        metrics=[{"stage": attack, "step": 1, "loss": 1.0}, {"stage": f"arms/{attack}", "step": 1, "loss": 1.0}],
        class_names=[attack] * 10,
    )
    assert not page.attributes("script")
    assert all(image["src"].startswith("data:") for image in page.attributes("img"))
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert attack in page.text
    assert attack in page.attributes("img")[0]["alt"]


def test_the_page_is_under_5_mb_with_photographs(digits_run, read):
    noise = np.random.default_rng(0).integers(0, 256, (1437, 96, 96, 3), dtype=np.uint8)  # the worst case for a PNG
    page = read(digits_run, images=noise)
    assert len(page.source.encode()) < 5_000_000
    assert all(int(image["width"]) == 112 for image in page.attributes("img"))
    assert not [image for image in page.attributes("img") if image.get("class") == "tiny"]


def test_tiny_images_keep_their_pixels(page):
    assert {(image["width"], image["class"]) for image in page.attributes("img")} == {("8", "tiny")}
    assert "image-rendering: pixelated" in page.source


def test_without_labels_it_says_why_there_is_no_accuracy(digits_run, read):
    arms = [{**arm, "probe": None, "knn": None} for arm in digits_run["results"]["arms"]]
    results = with_results(
        digits_run,
        dataset={"num_classes": None, "test_size": 0, "not_evaluated": "the training images have no labels"},
        latent_classes={"agreement": None},
    )
    page = read(digits_run, results={**results, "arms": arms}, labels=None, class_names=None)
    assert "the training images have no labels" in page.part("answer")
    assert "No linear probe and no kNN: the training images have no labels." in page.text
    assert "labelled" not in page.text
    assert len(page.attributes("img")) == 6 * 16


def test_without_probe_knn_is_compared(digits_run, read):
    arms = [{**arm, "probe": None} for arm in digits_run["results"]["arms"]]
    page = read(digits_run, results=with_results(digits_run, arms=arms))
    assert row_of(page, "answer", "sas at 20 %")[1].startswith("59.2 %")
    assert "Linear probe" not in page.text


def test_arms_without_a_rival_have_no_differences(digits_run, read, make_arm):
    page = read(digits_run, results=with_results(digits_run, arms=[make_arm("sas", 0.2, 0.6)]))
    assert "no arm shares a seed with random subsets of its size or with all images" in page.part("answer")


def test_embeddings_from_a_file_need_no_proxy(digits_run, read):
    page = read(digits_run, metrics=[], config={"proxy": {"embeddings": "mine.npy"}})
    assert "The run was given embeddings from a file, so no proxy was trained." in page.text
    assert "No loss was recorded." in page.text


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ({"ranking": None, "embeddings": None}, "The run ended before the ranking."),
        ({"embeddings": None}, "the embeddings are not available"),
        ({"images": None}, "No images are shown: they are not available"),
        ({"metrics": None}, "No loss was recorded."),
    ],
)
def test_what_is_missing_is_said(digits_run, missing, said, read):
    assert said in read(digits_run, **missing).text


def test_nothing_at_all_is_still_a_page(read_page):
    page = read_page(report.html(results={}))
    assert "The run ended before the ranking, so there are no differences yet." in page.part("answer")
    assert not page.attributes("svg")


def test_a_run_that_ended_with_the_ranking(digits_run, read):
    page = read(digits_run, results=with_results(digits_run, arms=[]))
    assert "The run ended after the ranking" in page.part("answer")
    assert "ahead" not in page.text
    assert page.attributes("img")


def test_arms_that_were_stopped_before_evaluation(digits_run, read):
    arms = [{**arm, "probe": None, "knn": None} for arm in digits_run["results"]["arms"]]
    page = read(digits_run, results=with_results(digits_run, arms=arms))
    assert "the run was stopped before the evaluation" in page.part("answer")


def test_no_turning_point(digits_run, read):
    ranking = digits_run["ranking"]
    rising = types.SimpleNamespace(position=ranking.position, gain=np.abs(ranking.gain), classes=ranking.classes)
    results = with_results(digits_run, selection={"objective": "facility_location", "turning_fraction": None})
    page = read(digits_run, results=results, ranking=rising)
    assert "no gain of facility_location is negative" in page.text
    assert "turning" not in [attributes.get("class") for attributes in page.attributes("line")]


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ([3.0, 2.0, 1.0], "Marginal gain, falling from 3.00 to 1.00"),
        ([-1.0, 0.0, 1.5], "Marginal gain, rising from \u22121.00 to 1.50"),
        ([2.0, 2.001, 2.001], "Marginal gain, from 2.00 to 2.00"),
        ([np.nan, 2.0, 1.0, np.nan], "Marginal gain, falling from 2.00 to 1.00"),
    ],
)
def test_the_words_of_the_gain_curve_fit_its_numbers(gains, words):
    mean = np.array(gains)
    drawn = plots.gain_curve(measures.Curve(np.linspace(0, 1, len(mean)), mean, mean, mean), [], None, 1)
    assert f'aria-label="{words}"' in drawn


def test_a_ranking_without_gains(digits_run, read):
    ranking = digits_run["ranking"]
    blank = types.SimpleNamespace(
        position=ranking.position, gain=np.full_like(ranking.gain, np.nan), classes=ranking.classes
    )
    page = read(digits_run, ranking=blank)
    assert "The ranking has no gains" in page.text
    assert not re.search(r"\bnan\b", page.source)


def test_a_ranking_up_to_a_budget(digits_run, read):
    ranking = digits_run["ranking"]
    beyond = ranking.position >= 40
    cut = types.SimpleNamespace(
        position=np.where(beyond, -1, ranking.position),
        gain=np.where(beyond, np.nan, ranking.gain),
        classes=ranking.classes,
    )
    page = read(digits_run, ranking=cut)
    assert "Ranked: 400 of 1,437 images" in page.text
    assert "The last picks are the last of the ranked images" in page.text
    assert all("pick 41 " not in image["alt"] for image in page.attributes("img"))


def test_one_class_of_one_image(digits_run, read):
    single = types.SimpleNamespace(
        position=np.zeros(1, np.int32), gain=np.zeros(1, np.float32), classes=np.zeros(1, np.int32)
    )
    page = read(digits_run, ranking=single, embeddings=digits_run["embeddings"][:1], images=digits_run["images"][:1],
                labels=digits_run["labels"][:1])  # fmt: skip
    assert "No latent class has two ranked images." in page.text
    assert "no latent class has two images" in page.text


def test_one_latent_class(digits_run, read):
    members = np.flatnonzero(digits_run["ranking"].classes == 0)
    one = types.SimpleNamespace(**{name: value[members] for name, value in vars(digits_run["ranking"]).items()})
    rows = {name: digits_run[name][members] for name in ("embeddings", "images", "labels")}
    page = read(digits_run, ranking=one, **rows)
    assert "mean over 1 latent class." in page.text
    assert len(page.attributes("img")) == 16


def test_a_loss_that_is_not_finite_is_named(digits_run, read):
    records = [*digits_run["metrics"], {"stage": "proxy", "step": 441, "epoch": 40.1, "loss": float("nan")}]
    page = read(digits_run, metrics=records)
    assert "not a finite number in proxy at step 441" in page.text
    assert not re.search(r"\bnan\b", page.source)


def test_embeddings_that_are_not_finite_do_not_stop_it(digits_run, read):
    page = read(digits_run, embeddings=np.full_like(digits_run["embeddings"], np.nan))
    assert "no latent class has two images with finite embeddings" in page.text


def test_seeds_stand_together(digits_run, make_arm, read):
    arms = [make_arm(None, None, 0.4), *(make_arm("sas", 0.2, 0.6 + 0.01 * seed, seed) for seed in range(3))]
    page = read(digits_run, results=with_results(digits_run, arms=arms))
    row = row_of(page, "", "sas at 20 %")
    assert row[1] == "3"
    assert row[4].startswith("61.0 %")
    assert row[4].endswith("seeds 60.0\u201362.0")
    assert [row[0] for row in page.rows if "-s" in row[0]] == ["sas-0.20-s0", "sas-0.20-s1", "sas-0.20-s2"]


def test_several_fractions_are_drawn_against_the_fraction(digits_run, make_arm, read):
    arms = [make_arm(None, None, 0.4), make_arm("full", 1.0, 0.93)]
    arms += [make_arm(name, share, 0.5 + share) for name in ("sas", "random") for share in (0.05, 0.2, 0.4)]
    page = read(digits_run, results=with_results(digits_run, arms=arms))
    assert "fraction of the images" in page.text
    assert row_of(page, "answer", "sas at 5 %")[2].startswith("+0.0")


def test_partitions_are_shown_after_the_selector(digits_run, make_arm, read):
    arms = [make_arm("random", 0.2, 0.5), *(make_arm("sas", 0.2, 0.6) | {"partition": name} for name in "ab")]
    page = read(digits_run, results=with_results(digits_run, arms=arms))
    assert row_of(page, "answer", "sas in a at 20 %") == [
        "sas in a at 20 %",
        *row_of(page, "answer", "sas in b at 20 %")[1:],
    ]


def test_devices_of_a_kind_are_counted(digits_run, read):
    assert "8 \u00d7 TPU v5e, cpu" in read(digits_run, environment={"devices": ["TPU v5e"] * 8 + ["cpu"]}).text


def test_config_from_ml_collections_is_shown_whole(digits_run, read):
    from ml_collections import config_dict

    config = config_dict.ConfigDict({"proxy": {"embeddings": "", "epochs": 7}, "arms": (("sas", 0.2, 0),)})
    page = read(digits_run, config=config)
    assert ["proxy.epochs", "7"] in page.rows
    assert ["arms", '[["sas", 0.2, 0]]'] in page.rows


@pytest.fixture(scope="module")
def whole_page(digits_run, measured, read):
    return read(digits_run, results=with_results(digits_run, **measured))


def test_all_that_was_measured_is_in_the_tables(whole_page):
    rows = {tuple(row[:2]): row[2:] for row in whole_page.rows if len(row) > 2}
    few = row_of(whole_page, "", "sas at 20 %")
    assert [cell.split(" %")[0] for cell in few[6:10]] == ["22.0", "32.0", "82.0", "42.0"]
    head = next(row for row in whole_page.rows if row[:2] == ["arm", "seeds"])
    assert head[6:10] == [
        "Linear probe on 1 % of the labels", "Linear probe on 10 % of the labels", "Linear probe on coarse classes",
        "Supervised: networks trained with labels",
    ]  # fmt: skip
    assert rows["sas at 20 %", "its subset"] == [
        "287", "0.432", "77.7 % 73.1\u201381.7", "0.112", "0.812 3 and 8", "0.247"]  # fmt: skip
    assert rows["sas at 20 %", "all images"][1] == "0.322"
    assert not {("untrained", "its subset"), ("full", "its subset")} & rows.keys()
    for said in ("from CLIP's embeddings", "predicted from 14 labelled images", "accuracy of 65.4 %",
                 "has the largest mean silhouette", "10: 0.33", "Differences in other accuracies"):  # fmt: skip
        assert said in whole_page.text or said in whole_page.source, said


def test_a_listed_subset_is_not_taken_for_all_images(whole_page):
    row = row_of(whole_page, "answer", "file at 19.97 %")
    assert row[1].startswith("65.5 %")
    assert row[2].startswith("+5.4"), "to random of its size"
    assert row[3].startswith("\u221227.5"), "to all images"


@pytest.mark.parametrize("seed", range(3))
def test_every_accuracy_comes_from_the_results(digits_run, read, seed):
    """With random numbers, each percentage shown for an arm is one of its own."""
    rng = np.random.default_rng(seed)
    results = copy.deepcopy(digits_run["results"])
    shares = []
    for arm in results["arms"]:
        for name in ("probe", "knn"):
            low, value, high = np.sort(rng.uniform(0.3, 0.99, 3))
            arm[name].update(low=low, value=value, high=high)
            shares += [low, value, high]
    page = read(digits_run, results=results)
    rows = [row_of(page, "", name) for name in ("untrained", "sas at 20 %", "random at 20 %", "full")]
    told = {number for row in rows for cell in row[4:6] for number in re.findall(r"\d+\.\d", cell)}
    assert told == {f"{100 * share:.1f}" for share in shares}


def test_loss_and_times_come_from_the_results(digits_run, read):
    results = with_results(digits_run, stages={"proxy": {"wall_seconds": 4321.0}})
    results["arms"][1].update(loss=9.8765, train_seconds=7777.0, steps=65_432, views_per_second=123_456.0)
    page = read(digits_run, results=results)
    assert row_of(page, "", "sas at 20 %")[6:] == ["65,432", "9.877", "2 h 10 min"]
    assert next(row for row in page.rows if row and row[0] == "proxy")[1] == "1 h 12 min"


def test_the_rate_of_a_training_stands_beside_its_stage(digits_run, read):
    results = with_results(digits_run, stages={"train/sas-0.20-s0": {"wall_seconds": 3.0}})
    results["arms"][1]["views_per_second"] = 123_456.0
    page = read(digits_run, results=results, environment={"devices": ["v5e"] * 8, "backend": "tpu"})
    assert next(row for row in page.rows if row and row[0] == "train/sas-0.20-s0")[3] == "123,456"
    total = sum(stage["wall_seconds"] for stage in results["stages"].values())
    assert next(row for row in page.rows if row and row[0] == "total")[2] == f"{8 * total // 60:.0f} min " + (
        f"{8 * total % 60:.0f} s of device time"
    )


class Noise:
    """Noise images, made on access."""

    def __init__(self, n: int, size: int):
        self.shape = (n, size, size, 3)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        return np.random.default_rng(int(index)).integers(0, 256, self.shape[1:], dtype=np.uint8)


def test_50_000_images_of_224_pixels_are_under_5_mb(digits_run, read, make_arm):
    n, rng = 50_000, np.random.default_rng(0)
    classes = rng.integers(0, 1_000, n)
    position = np.empty(n, np.int32)
    for members in np.split(np.argsort(classes, kind="stable"), np.cumsum(np.bincount(classes))[:-1]):
        position[members] = rng.permutation(len(members))
    ranking = types.SimpleNamespace(position=position, gain=rng.normal(size=n).astype(np.float32), classes=classes)
    labels = rng.integers(0, 1_000, n)
    names = [f"a class of photographs, number {label}" for label in range(1_000)]
    metrics = [{"stage": f"arms/sas-0.20-s{s}", "step": k, "epoch": k / 9, "loss": 1.0 + k % 7 / 9}
               for s in range(3) for k in range(20_000)]  # fmt: skip
    arms = [make_arm("sas", share, 0.5, seed) for share in (0.05, 0.2, 0.4) for seed in range(5)]
    page = read(digits_run, results=with_results(digits_run, arms=arms), ranking=ranking, labels=labels,
                embeddings=rng.normal(size=(n, 32)).astype(np.float32), images=Noise(n, 224), class_names=names,
                metrics=metrics)  # fmt: skip
    assert len(page.source.encode()) < 5_000_000
    assert len(page.attributes("img")) == 96


def test_embeddings_of_other_images_are_not_drawn(digits_run, read):
    page = read(digits_run, embeddings=digits_run["embeddings"][:100])
    assert "the embeddings are not available" in page.text


def test_why_there_are_no_pictures_is_said(digits_run, read):
    page = read(digits_run, images=None, without_images="the folder <b> is gone")
    assert "No images are shown: they are not available (the folder <b> is gone)." in page.text


@pytest.mark.parametrize(("side", "kind", "width"), [(8, "png", 8), (32, "jpeg", 112), (224, "jpeg", 112)])
def test_pictures_are_large_enough_to_see(digits_run, read, side, kind, width):
    page = read(digits_run, images=Noise(1437, side))
    image = page.attributes("img")[0]
    assert image["src"].startswith(f"data:image/{kind};base64,")
    assert int(image["width"]) == width
    assert image.get("class") == ("tiny" if kind == "png" else None)


def test_some_labels_are_enough(digits_run, read):
    labels = np.where(np.arange(1437) % 2, -1, digits_run["labels"])
    page = read(digits_run, labels=labels)
    named = ["labelled" in image["alt"] for image in page.attributes("img")]
    assert any(named)
    assert not all(named)
    assert "of the labelled images have the most frequent label" in page.text


def test_names_of_classes_and_fields_are_harmless_everywhere(digits_run, measured, read):
    attack = "</td></table><script>alert(1)</script>"
    results = with_results(digits_run, **copy.deepcopy(measured))
    results["latent_classes"]["embeddings"] = attack
    results["arms"][1]["name"] = attack
    results["stages"][f"train/{attack}"] = {"wall_seconds": 1.0}
    page = read(digits_run, results=results, class_names=[attack] * 10, config={attack: {attack: [attack]}},
                environment={attack: attack, "devices": [attack]}, without_images=attack, images=None,
                metrics=[{"stage": f"supervised/{attack}", "step": 1, "loss": 2.0}])  # fmt: skip
    assert not page.attributes("script")
    assert attack in page.text


def test_printing_has_its_rules(page):
    assert "@media print" in page.source
    assert "@media screen and (prefers-color-scheme: dark)" in page.source, "paper is light"


@pytest.mark.parametrize(
    ("embeddings", "given", "said"),
    [
        ("clip", "E.npy", "from CLIP's embeddings"),
        ("timm/resnet18", "", "from features of timm/resnet18"),
        ("", "hf/a/b", "from features of hf/a/b"),
        ("E.npy", "hf/a/b", "from embeddings from a file"),
        ("", "E.npy", "from embeddings from a file"),
        ("", "", "from embeddings of a proxy encoder"),
    ],
)
def test_the_page_says_what_latent_classes_were_made_from(embeddings, given, said):
    latent = LatentClasses(method="kmeans", embeddings=embeddings)
    assert outcome._vectors(latent, {"proxy": {"embeddings": given}}) == f", {said}"
