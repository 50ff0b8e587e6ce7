"""`bus produce`, `bus consume` and `bus dump`: the same bytes at both ends."""

import base64
import json
from pathlib import Path

import bus
from bus.broker import Broker
from tests.cli.runs import answer, done, one_line, run


def test_lines_come_out_as_they_went_in(bus_dir: Path, broker: Broker) -> None:
    sent = done("produce", "t", "--dir", bus_dir, stdin="one\ntwo\nthree\n")
    assert "sent 3 records" in sent.stderr
    read = done("consume", "t", "--from-beginning", "-n", "3", "--dir", bus_dir)
    assert read.stdout == "one\ntwo\nthree\n"


def test_files_are_read_one_after_the_other(bus_dir: Path, broker: Broker, tmp_path: Path) -> None:
    for name, text in (("a", "1\n2\n"), ("b", "3")):
        (tmp_path / name).write_text(text)
    done("produce", "t", tmp_path / "a", tmp_path / "b", "--dir", bus_dir)
    read = done("consume", "t", "--from-beginning", "-n", "3", "--dir", bus_dir)
    assert read.stdout == "1\n2\n3\n"


def test_a_separator_makes_keys(bus_dir: Path, broker: Broker) -> None:
    done("produce", "t", "-k", "=", "--dir", bus_dir, stdin="k=v=w\nno key\n")
    consume = ("consume", "t", "--from-beginning", "-n", "2", "--dir", bus_dir)
    assert done(*consume, "--format", "key-value").stdout == "k\tv=w\n\tno key\n"
    first, second = map(json.loads, done(*consume, "--json").stdout.splitlines())
    assert (first["key"], first["value"], first["offset"]) == ("k", "v=w", 0)
    assert second["key"] is None


def test_bytes_that_are_no_text_are_shown_as_base64(bus_dir: Path, broker: Broker) -> None:
    with bus.Producer(bus_dir) as producer:
        producer.send("t", b"\xff\x00", headers=[("h", b"\xfe"), ("text", b"yes")])
        producer.flush()
    read = done("consume", "t", "--from-beginning", "-n", "1", "--json", "--dir", bus_dir)
    record = json.loads(read.stdout)
    assert base64.b64decode(record["value_base64"]) == b"\xff\x00"
    assert record["headers"][1] == {"name": "text", "value": "yes"}
    assert base64.b64decode(record["headers"][0]["value_base64"]) == b"\xfe"


def test_a_partition_is_read_from_an_offset(bus_dir: Path, broker: Broker) -> None:
    done("topics", "create", "t", "-p", "2", "--dir", bus_dir)
    done("produce", "t", "-p", "1", "--dir", bus_dir, stdin="a\nb\nc\n")
    read = done("consume", "t", "-p", "1", "-o", "1", "-n", "2", "--dir", bus_dir)
    assert read.stdout == "b\nc\n"


def test_consume_stops_when_nothing_comes(bus_dir: Path, broker: Broker) -> None:
    done("topics", "create", "t", "--dir", bus_dir)
    assert done("consume", "t", "--timeout-ms", "50", "--dir", bus_dir).stdout == ""


def test_a_group_goes_on_where_it_was(bus_dir: Path, broker: Broker) -> None:
    done("produce", "t", "--dir", bus_dir, stdin="a\nb\nc\n")
    consume = ("consume", "t", "-g", "g", "--from-beginning", "--dir", bus_dir)
    assert done(*consume, "-n", "2").stdout == "a\nb\n"
    assert done(*consume, "-n", "1").stdout == "c\n"


def test_options_that_do_not_fit_are_wrong_usage(bus_dir: Path) -> None:
    assert run("consume", "t", "-o", "1", "--dir", bus_dir).exit_code == 2
    assert run("consume", "t", "-p", "1", "-g", "g", "--dir", bus_dir).exit_code == 2
    assert run("produce", "t", "/no/such/file", "--dir", bus_dir).exit_code == 2


def test_a_partition_out_of_range_is_refused_in_one_line(bus_dir: Path, broker: Broker) -> None:
    done("topics", "create", "t", "--dir", bus_dir)
    refused = run("produce", "t", "-p", "7", "--dir", bus_dir, stdin="a\n")
    assert refused.exit_code == 1
    assert "not 7" in one_line(refused)


def test_a_dump_shows_header_index_frames_and_end(bus_dir: Path, broker: Broker) -> None:
    done("produce", "t", "-k", "=", "--dir", bus_dir, stdin="key=value\nother\n")
    file = bus_dir / "topics" / "t" / "0" / f"{0:020d}.log"
    lines = [json.loads(one) for one in done("dump", file, "--json").stdout.splitlines()]
    assert lines[0]["segment"]["number"] == 1
    assert [line["frame"]["offset"] for line in lines if "frame" in line] == [0, 1]
    assert (lines[1]["frame"]["key"], lines[1]["frame"]["value"]) == ("key", "value")
    assert lines[-1]["end"]["next_offset"] == 2
    shown = done("dump", file).stdout
    assert "key='key'" in shown
    limited = done("dump", file, "-n", "1", "--no-values").stdout
    assert "limit of 1 frames" in limited
    assert "key='key'" not in limited


def test_a_dump_of_a_hot_segment_shows_its_index(bus_dir: Path, broker: Broker) -> None:
    done("produce", "t", "--dir", bus_dir, stdin="value\n")
    hot = answer("status", bus_dir)["hot_dir"]
    (file,) = Path(hot).glob("1-0.*.seg")
    lines = [json.loads(one) for one in done("dump", file, "--index", "--json").stdout.splitlines()]
    entries = [line["index"] for line in lines if "index" in line]
    assert [(one["position"], one["offset"]) for one in entries] == [(12288, 0)]


def test_a_file_that_is_no_segment_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(bytes(20000))
    refused = run("dump", file)
    assert refused.exit_code == 1
    assert "magic" in one_line(refused)
    assert run("dump", tmp_path / "nothing").exit_code == 2
