"""A pipeline draws itself: text for a terminal, SVG for a page."""

from xml.etree import ElementTree

from tests.workers import stages
from workers import Pipeline
from workers.pipeline.measures import EdgeMeasures, PipelineMeasures, Rates, StageMeasures
from workers.pipeline.picture import pictured

SVG = "{http://www.w3.org/2000/svg}"


def forked() -> Pipeline:
    """source ─► double ─┬─► negate ───┬─► both, and ─► to a topic"""
    made = Pipeline("./nowhere", name="p").source(range(3)).stage(stages.double, processes=2)
    made.stage(stages.negate, after="double").stage(stages.slowly, name="a<b", after="double")
    made.stage(stages.three, name="both", after=["negate", "a<b"])
    return made.stage(stages.plus_state, init=stages.thousand, after="negate").sink("out")


def measured() -> PipelineMeasures:
    def stage(name: str, held_up: str = "") -> StageMeasures:
        return StageMeasures(name, 2, 1, 1000, 3, 0, 1, 12, 1234.5, 0.1, 0.2, held_up)

    names = ("double", "negate", "a<b", "both", "plus_state")
    edge = EdgeMeasures("p.double", "double", "negate", 100, 42)
    held = [stage(name, "no room" if name == "double" else "") for name in names]
    return PipelineMeasures("p", 1000, tuple(held), (edge,))


def test_the_text_shows_each_stage_once_below_the_last_one_it_reads() -> None:
    assert str(forked()).splitlines() == [
        "source",
        "└── double: tests.workers.stages:double in 2 workers",
        "    ├── negate: tests.workers.stages:negate in 1 worker",
        "    │   ├── ► both",
        "    │   └── plus_state: tests.workers.stages:plus_state in 1 worker",
        "    │       └── ► topic out",
        "    └── a<b: tests.workers.stages:slowly in 1 worker",
        "        └── both: tests.workers.stages:three in 1 worker",
    ]


def test_the_picture_is_valid_xml_with_all_parts_and_figures() -> None:
    pipeline = forked()
    for measures in (None, measured()):
        root = ElementTree.fromstring(pictured(pipeline._graph, measures))
        texts = [element.text for element in root.iter(f"{SVG}text")]
        parts = ("source", "double", "negate", "a<b", "both", "plus_state", "topic out", "results")
        assert all(texts.count(name) == 1 for name in parts)
        assert len(list(root.iter(f"{SVG}rect"))) == len(parts)
        # six between parts, and two that leave
        assert len([one for one in root.iter(f"{SVG}path") if one.get("class")]) == 8
        width, height = float(root.attrib["width"]), float(root.attrib["height"])
        for rectangle in root.iter(f"{SVG}rect"):
            x, y, w, h = (float(rectangle.attrib[name]) for name in ("x", "y", "width", "height"))
            assert 0 <= x <= width - w
            assert 0 <= y <= height - h
    assert "42" in texts
    assert "2 workers, 1,234/s" in texts
    assert [one.get("class") for one in root.iter(f"{SVG}rect")].count("held") == 1


def test_a_rate_is_of_the_last_few_seconds() -> None:
    rates = Rates()
    assert rates.of("a") == 0.0
    for second in range(100):
        rates.note({"a": second * 10 if second < 50 else 500}, float(second))
        if second == 40:
            assert rates.of("a") == 10.0
    assert rates.of("a") == 0.0
