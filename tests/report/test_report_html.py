"""The page as a whole: what it says of a run, what it says where something is missing, and that it harms nobody."""

import copy
import html.parser
import re
import types

import numpy as np
import pytest

from sas_jax import report


class Page(html.parser.HTMLParser):
    """The page as a reader meets it: its text by section, its tags with their attributes."""

    def __init__(self, source: str):
        super().__init__()
        self.source = source
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: dict[str, list[str]] = {"": []}
        self.rows: list[list[str]] = []
        self._identity: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("meta", "img", "br"):
            return
        self.open.append(tag)
        self._identity.append(dict(attrs).get("id") or (self._identity[-1] if self._identity else ""))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()
        self._identity.pop()

    def handle_data(self, data):
        if "style" in self.open or "head" in self.open:
            return
        data = data.replace("\u00a0", " ")
        self.words.setdefault(self._identity[-1] if self._identity else "", []).append(data)
        if self.open and ("td" in self.open or "th" in self.open):
            self.rows[-1][-1] += data if not self.rows[-1][-1] else " " + data

    @property
    def text(self) -> str:
        return " ".join(word for words in self.words.values() for word in words)

    def part(self, identity: str) -> str:
        return "".join(self.words.get(identity, []))

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read(run, **changes) -> Page:
    page = Page(report.html(**{**run, **changes}))
    assert not page.open, f"never closed: {page.open}"
    return page


def with_results(run, **sections):
    results = copy.deepcopy(run["results"])
    for name, value in sections.items():
        results[name] = {**results[name], **value} if isinstance(value, dict) else value
    return results


@pytest.fixture(scope="module")
def page(digits_run) -> Page:
    return read(digits_run)


def test_it_opens_with_the_answer_and_its_intervals(page):
    answer = page.part("answer")
    assert (
        "sas at 20 % reaches 61.2 % (56.1\u201366.1), random at 20 % 60.1 % (55.0\u201365.0): no difference" in answer
    )
    assert "one test set of 360 images" in answer
    assert "The untrained encoder, measured in the same way, reaches 70.0 %" in answer
    assert "full (all 1,437 images) reaches 93.0 %" in answer
    assert page.source.index('id="answer"') < page.source.index("<table")


def test_the_arms_table_has_every_number(page):
    row = next(row for row in page.rows if row and row[0] == "sas")
    assert row == ["sas", "20 %", "287", "61.2 % 56.1\u201366.1", "59.2 % 54.1\u201364.2", "\u22128.8 overlap",
                   "40", "80", "4.123", "17 s"]  # fmt: skip
    assert next(row for row in page.rows if row and row[0] == "full")[5] == "+23.0 apart"
    assert any(row and row[0] == "untrained" for row in page.rows)


def test_what_ran_is_told(page):
    for said in ("1,437 training images", "360 test images", "10 latent classes by kmeans", "cosine similarity",
                 "3 encoders were trained", "1 min 21 s", "jax 0.10.2", "TFRT_CPU_0", "0123abc", '"image_size": 16',
                 "accuracy 0.918"):  # fmt: skip
        assert said in page.text, said
    assert page.attributes("details")[0]["id"] == "config"
    assert "open" not in page.attributes("details")[0]


def test_every_picture_has_a_text_alternative(page):
    images, drawings = page.attributes("img"), page.attributes("svg")
    assert len(images) == 6 * 16
    assert all(re.fullmatch(r"image \d+, pick \d+ of \d+ in latent class \d+, labelled \d", i["alt"]) for i in images)
    assert all(image["src"].startswith("data:image/png;base64,") for image in images)
    assert len(drawings) == 9
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
    assert marks.count("budget") == 2
    assert marks.count("turning") == 2
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


def test_names_from_outside_are_harmless(digits_run):
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


def test_the_page_is_under_5_mb_with_photographs(digits_run):
    noise = np.random.default_rng(0).integers(
        0, 256, (1437, 96, 96, 3), dtype=np.uint8
    )  # the worst that a PNG can hold
    page = read(digits_run, images=noise)
    assert len(page.source.encode()) < 5_000_000
    assert all(int(image["width"]) <= 80 for image in page.attributes("img"))
    assert not [image for image in page.attributes("img") if image.get("class") == "tiny"]


def test_tiny_images_keep_their_pixels(page):
    assert {(image["width"], image["class"]) for image in page.attributes("img")} == {("8", "tiny")}
    assert "image-rendering: pixelated" in page.source


def test_without_labels_it_says_why_there_is_no_accuracy(digits_run):
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


def test_without_probe_knn_is_the_answer(digits_run):
    arms = [{**arm, "probe": None} for arm in digits_run["results"]["arms"]]
    page = read(digits_run, results=with_results(digits_run, arms=arms))
    assert "sas at 20 % reaches 59.2 %" in page.part("answer")
    assert "those of the kNN" in page.part("reading")


def test_embeddings_from_a_file_need_no_proxy(digits_run):
    page = read(digits_run, metrics=[], config={"proxy": {"embeddings": "mine.npy"}})
    assert "embeddings from a file" in page.text
    assert "so no proxy was trained here" in page.text
    assert "No loss was recorded." in page.text


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ({"ranking": None, "embeddings": None}, "The run ended before the ranking."),
        ({"embeddings": None}, "The embeddings are not at hand"),
        ({"images": None}, "The images are not at hand"),
        ({"metrics": None}, "No loss was recorded."),
    ],
)
def test_what_is_missing_is_said(digits_run, missing, said):
    assert said in read(digits_run, **missing).text


def test_nothing_at_all_is_still_a_page():
    page = Page(report.html(results={}))
    assert "The run ended before the ranking; there is no answer yet." in page.part("answer")
    assert not page.attributes("svg")


def test_a_run_that_ended_with_the_ranking(digits_run):
    page = read(digits_run, results=with_results(digits_run, arms=[]))
    assert "The run ended with the ranking" in page.part("answer")
    assert "ahead" not in page.text
    assert page.attributes("img")


def test_arms_that_were_stopped_before_evaluation(digits_run):
    arms = [{**arm, "probe": None, "knn": None} for arm in digits_run["results"]["arms"]]
    page = read(digits_run, results=with_results(digits_run, arms=arms))
    assert "the run was stopped before the evaluation" in page.part("answer")


def test_no_turning_point(digits_run):
    ranking = digits_run["ranking"]
    rising = types.SimpleNamespace(position=ranking.position, gain=np.abs(ranking.gain), classes=ranking.classes)
    results = with_results(digits_run, selection={"objective": "facility_location", "turning_fraction": None})
    page = read(digits_run, results=results, ranking=rising)
    assert "no gain of facility_location is negative" in page.text
    assert "turning" not in [attributes.get("class") for attributes in page.attributes("line")]


def test_a_ranking_without_gains(digits_run):
    ranking = digits_run["ranking"]
    blank = types.SimpleNamespace(
        position=ranking.position, gain=np.full_like(ranking.gain, np.nan), classes=ranking.classes
    )
    page = read(digits_run, ranking=blank)
    assert "The ranking has no gains" in page.text
    assert not re.search(r"\bnan\b", page.source)


def test_a_ranking_up_to_a_budget(digits_run):
    ranking = digits_run["ranking"]
    beyond = ranking.position >= 40
    cut = types.SimpleNamespace(
        position=np.where(beyond, -1, ranking.position),
        gain=np.where(beyond, np.nan, ranking.gain),
        classes=ranking.classes,
    )
    page = read(digits_run, ranking=cut)
    assert "Ranked: 400 of 1,437 images" in page.text
    assert "Last means last of those ranked" in page.text
    assert all("pick 41 " not in image["alt"] for image in page.attributes("img"))


def test_one_class_of_one_image(digits_run):
    single = types.SimpleNamespace(
        position=np.zeros(1, np.int32), gain=np.zeros(1, np.float32), classes=np.zeros(1, np.int32)
    )
    page = read(digits_run, ranking=single, embeddings=digits_run["embeddings"][:1], images=digits_run["images"][:1],
                labels=digits_run["labels"][:1])  # fmt: skip
    assert "No latent class has two ranked images." in page.text
    assert "no latent class has two images" in page.text


def test_one_latent_class(digits_run):
    members = np.flatnonzero(digits_run["ranking"].classes == 0)
    one = types.SimpleNamespace(**{name: value[members] for name, value in vars(digits_run["ranking"]).items()})
    rows = {name: digits_run[name][members] for name in ("embeddings", "images", "labels")}
    page = read(digits_run, ranking=one, **rows)
    assert "mean over 1 latent class." in page.text
    assert len(page.attributes("img")) == 16


def test_a_loss_that_is_not_finite_is_named(digits_run):
    records = [*digits_run["metrics"], {"stage": "proxy", "step": 441, "epoch": 40.1, "loss": float("nan")}]
    page = read(digits_run, metrics=records)
    assert "not a finite number in proxy at step 441" in page.text
    assert not re.search(r"\bnan\b", page.source)


def test_embeddings_that_are_not_finite_do_not_stop_it(digits_run):
    page = read(digits_run, embeddings=np.full_like(digits_run["embeddings"], np.nan))
    assert "no latent class has two images with finite embeddings" in page.text


def test_seeds_stand_together(digits_run, make_arm):
    arms = [make_arm(None, None, 0.4), *(make_arm("sas", 0.2, 0.6 + 0.01 * seed, seed) for seed in range(3))]
    page = read(digits_run, results=with_results(digits_run, arms=arms))
    row = next(row for row in page.rows if row and row[0].startswith("sas"))
    assert row[0] == "sas 3 seeds"
    assert row[3].startswith("61.0 %")
    assert row[3].endswith("seeds 60.0\u201362.0")
    assert [row[0] for row in page.rows if "-s" in row[0]] == ["sas-0.20-s0", "sas-0.20-s1", "sas-0.20-s2"]


def test_several_fractions_are_drawn_against_the_fraction(digits_run, make_arm):
    arms = [make_arm(None, None, 0.4), make_arm("full", 1.0, 0.93)]
    arms += [make_arm(name, share, 0.5 + share) for name in ("sas", "random") for share in (0.05, 0.2, 0.4)]
    page = read(digits_run, results=with_results(digits_run, arms=arms))
    assert "fraction of the images" in page.text
    assert page.part("answer").startswith(
        "sas against random of the same size: no difference can be claimed at 5 %, 20 %, 40 %."
    )


def test_devices_of_a_kind_are_counted(digits_run):
    assert "8 \u00d7 TPU v5e, cpu" in read(digits_run, environment={"devices": ["TPU v5e"] * 8 + ["cpu"]}).text


def test_config_from_ml_collections_is_shown_whole(digits_run):
    from ml_collections import config_dict

    config = config_dict.ConfigDict({"proxy": {"embeddings": "", "epochs": 7}, "arms": (("sas", 0.2, 0),)})
    page = read(digits_run, config=config)
    assert '"epochs": 7' in page.text
    assert '"sas"' in page.text
