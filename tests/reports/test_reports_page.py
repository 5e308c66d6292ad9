import re
from html.parser import HTMLParser

import pytest

from freezeout.perf.records import Failed
from reports.collection import collect, load
from reports.page import breakable, html, tone, unbroken
from reports.text import (
    amount,
    joined,
    mebibytes,
    percent,
    points,
    rate,
    shortened,
    speed_factor,
    times,
)

VOID = {"meta", "img", "source", "br", "link", "wbr"}


class Outline(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that do not match."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.addresses, self.ids, self.text = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        given = dict(attrs)
        self.addresses += [given[k] for k in ("src", "srcset", "href") if given.get(k)]
        self.ids += [given["id"]] if "id" in given else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    @property
    def plain(self):
        return re.sub(r"\s+", " ", "".join(self.text))


def outline(page):
    parser = Outline()
    parser.feed(page)
    assert parser.open == []
    return parser


@pytest.fixture(scope="module")
def page(written):
    return (written / "index.html").read_text(encoding="utf-8")


def test_the_page_needs_nothing_beside_itself(page):
    found = outline(page)
    assert found.addresses
    assert all(a.startswith(("data:image/svg+xml;base64,", "#")) for a in found.addresses)
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert "script" not in found.tags
    assert "url(" not in page
    assert "@import" not in page


def test_links_inside_the_page_lead_somewhere(page):
    found = outline(page)
    targets = [address[1:] for address in found.addresses if address.startswith("#")]
    assert set(targets) <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))


def test_the_page_names_machine_models_and_failures(page, make):
    text = outline(page).plain
    assert "Measured on Example CPU @ 2.00GHz (cpu), 2 threads, torch 2.13.0" in text
    for name in ("densenet_bc (depth 40, growth_rate 12)", "timm:resnet18", make.reason):
        assert name in text
    assert "curve: FAILED" in text
    assert "not measured" in text


def test_the_page_holds_numbers_only(page):
    text = outline(page).plain
    assert re.search(r"\b(nan|NaN|inf|None|undefined)\b", text) is None


def test_the_page_explains_its_terms(page):
    text = outline(page).plain
    for term in ("block", "freeze level", "saving", "source"):
        assert re.search(rf"{term}\s*[A-Z]", text)


def test_every_figure_comes_for_either_colour_scheme(page):
    light = re.findall(r'<img src="(data:[^"]+)"', page)
    dark = re.findall(r'prefers-color-scheme: dark\)" srcset="(data:[^"]+)"', page)
    assert len(light) == len(dark) == 8
    assert not set(light) & set(dark)


def test_the_page_answers_five_questions_first(page):
    text = outline(page).plain
    at = [
        text.index(question)
        for question in (
            "Which blocks are worth freezing?",
            "What does freezing save here?",
            "What does it cost in accuracy?",
            "How far is each prediction off?",
            "Can the numbers be trusted?",
            "Savings by model and schedule",
        )
    ]
    assert at == sorted(at)
    assert "Backward time of each block by three sources" in text
    assert "Where the time goes" in text
    assert "Kinds of work" in text


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("AGREES (±3 pp)", "good"),
        ("BEYOND ±5 pp", "bad"),
        ("not shown", "open"),
        ("not measured", "absent"),
        ("2 doubts", "open"),
        ("ledger and profiler: unexplained", "open"),
        ("12.3 ms [12.1, 12.5]", ""),
        ("stage1.0 … stage2.1", ""),
    ],
)
def test_cells_are_coloured_by_what_they_say(cell, expected):
    assert tone(cell) == expected


def test_long_names_may_break_and_stay_text():
    assert breakable("torchvision:mobilenet_v3_small") == (
        "torchvision:<wbr>mobilenet_<wbr>v3_<wbr>small"
    )
    assert breakable("vgg16 (dropout 0.5)") == "vgg16 (dropout 0.5)"
    assert "<script" not in breakable("<script>alert(1)</script>")


def test_a_page_of_schema_1_leaves_out_what_was_not_measured(tmp_path, make):
    records = [make.session(), make.curve(make.resnet, 4), make.run(make.resnet, 4)]
    page = html(load([make.save_schema_1(tmp_path / "old.jsonl", records)]))
    text = outline(page).plain
    assert "Where the time goes" not in text
    assert "Kinds of work" not in text
    assert "roofline" not in text.split("Terms", 2)[0]
    assert "Backward time of each block" in text
    assert re.search(r"\b(nan|inf|None)\b", text) is None


def test_hostile_names_stay_text(make):
    name = "<script>alert(1)</script>"
    failed = Failed(session="s1", config=make.config(f'x"{name}'), case=name, reason=f"'{name}")
    session = make.session(device_name=name, os=name)
    found = outline(html(collect([session, failed])))
    assert "script" not in found.tags
    assert found.plain.count(name) >= 4


def test_a_page_of_one_kind_of_record_only(make):
    curve = make.curve(make.resnet, 14)
    training = make.training(make.resnet, 14, make.baseline, 0, 5.0)
    failed = Failed(session="s1", config=make.resnet, case="curve", reason="too large")
    for record, heading in (
        (curve, "Cost of a step at every level"),
        (training, "Error after training"),
        (failed, "too large"),
    ):
        text = outline(html(collect([make.session(), record]))).plain
        assert heading in text
        assert re.search(r"\b(nan|inf|None)\b", text) is None


def test_records_of_an_unknown_session_are_reported_as_such(make):
    text = outline(html(collect([make.training(make.resnet, 14, make.cubic, 0, None)]))).plain
    assert "The results do not say on which machine they were measured." in text
    assert "every seed diverged" in text


def estimate(value, low, high, n=5):
    from freezeout.perf.statistics import Estimate

    return Estimate(value=value, low=low, high=high, n=n)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (percent(estimate(0.351, 0.34, 0.362)), "35.1 % [34.0, 36.2]"),
        (percent(estimate(0.2, 0.2, 0.2, n=0)), "20.0 %"),
        (percent(estimate(0.2, -float("inf"), float("inf"), n=1)), "20.0 %, no interval (n=1)"),
        (percent(None), "not measured"),
        (points(estimate(-0.0001, -0.01, 0.01)), "+0.0 pp [-1.0, +1.0]"),
        (points(estimate(0.03, 0.02, 0.04, n=0)), "+3.0 pp [+2.0, +4.0]"),
        (times(speed_factor(estimate(0.2, 0.0, 0.5))), "1.25 × [1.00, 2.00]"),
        (amount(estimate(12.34, 12.0, 12.5), "ms", digits=2), "12.34 ms [12.00, 12.50]"),
        (mebibytes(3 * 2**19), "1.5 MiB"),
        (mebibytes(None), "not measured"),
        (rate(1.234e11, "FLOP"), "123.4 GFLOP/s"),
        (rate(5.0, "B"), "5.0 B/s"),
        (joined(["a", "b", "c"]), "a, b and c"),
        (joined(["a"]), "a"),
        (shortened("a" * 60, 20), "a" * 8 + " … " + "a" * 9),
        (unbroken("saved 3.0 % [1.0, 2.0] of it"), "saved 3.0\u00a0% [1.0,\u00a02.0] of it"),
    ],
)
def test_numbers_carry_unit_and_interval(shown, expected):
    assert shown == expected
