from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.contract import ConnectorError
from connectors.files import Field, FileError, open_events

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

FIELDS = (
    Field("card_id", "string"),
    Field("amount", "number"),
    Field("event_time", "time"),
    Field("country", "string", required=False),
)
NAMES = {"card_id": "CUSTOMER_ID", "amount": "TX_AMOUNT", "event_time": "TX_DATETIME"}
FOREIGN = Path(__file__).parents[3] / "shared" / "data" / "fraud" / "transactions_2018-04-01_2018-08-14.parquet"
NOON = 1522584000000  # 2018-04-01T12:00:00Z


def read(path: Path, **options: Any) -> list[dict[str, Any]]:
    options = {"fields": FIELDS, "key": "card_id", **options}
    with open_events(path, **options) as file:
        values = [value for batch in file for value in batch.values]
    return [json.loads(value) for value in values]


def fails(path: Path, **options: Any) -> str:
    with pytest.raises(FileError) as caught:
        read(path, **options)
    assert isinstance(caught.value, ConnectorError)
    assert str(path) in str(caught.value)
    return str(caught.value)


def write(path: Path, text: str) -> Path:
    data = text.encode("utf-8", "surrogateescape")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def table(path: Path, columns: Mapping[str, Any], **options: Any) -> Path:
    parquet.write_table(pa.table(columns), path, **options)
    return path


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_csv_by_column(tmp_path: Path, ending: str) -> None:
    path = write(
        tmp_path / f"a.{ending}",
        "\N{ZERO WIDTH NO-BREAK SPACE}id,CUSTOMER_ID,TX_AMOUNT,TX_DATETIME,country\r\n"
        '1,596,57.16,2018-04-01 12:00:00,DE\r\n\r\n2,"a ""b"", c",1e2,2018-04-01T14:00:00.5+02:00,\r\n'
        "3,é,7,1522584000000,FR",
    )
    with open_events(path, fields=FIELDS, key="card_id", columns=NAMES) as file:
        (batch,) = file
        assert file.bytes_read == file.total_bytes == path.stat().st_size
    assert batch.keys == [b"596", b'a "b", c', "é".encode()]
    assert batch.rows == [2, 4, 5]
    assert [json.loads(value) for value in batch.values] == [
        {"card_id": "596", "amount": 57.16, "event_time": NOON, "country": "DE"},
        {"card_id": 'a "b", c', "amount": 100.0, "event_time": NOON + 500},
        {"card_id": "é", "amount": 7.0, "event_time": NOON, "country": "FR"},
    ]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_csv_delimiter_comes_from_the_header(tmp_path: Path, delimiter: str) -> None:
    rows = [["card_id", "amount", "event_time"], ["c1", "1", "0"]]
    path = write(tmp_path / "a.csv", "\n".join(delimiter.join(row) for row in rows))
    assert read(path) == [{"card_id": "c1", "amount": 1.0, "event_time": 0}]


def test_a_name_that_is_no_field_is_added(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "card_id,amount,event_time,note,rest\nc1,1,0,hello,x\n")
    assert read(path, columns={"comment": "note"}) == [
        {"card_id": "c1", "amount": 1.0, "event_time": 0, "comment": "hello"}
    ]


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ("c1,a lot,0", ["line 3", "`amount`", "a finite number", "'a lot'"]),
        ("c1,nan,0", ["line 3", "`amount`", "'nan'"]),
        ("c1,1e999,0", ["line 3", "`amount`"]),
        ("c1,,0", ["line 3", "`amount`", "got nothing"]),
        ("c1,1,yesterday", ["line 3", "`event_time`", "ISO 8601", "'yesterday'"]),
        ("c1,1,99999999999999999999", ["line 3", "`event_time`"]),
        ("c1,1", ["line 3", "expected 3 columns, got 2"]),
        ("c\udcff,1,0", ["line 3", "`card_id`", "UTF-8", "\\udcff"]),
        ('"c1,1,0', ["line 4", "quotation mark"]),
        ("c" * 300 + ",1,0", ["line 3", "at most 200 bytes"]),
    ],
)
def test_a_bad_csv_row_stops_or_is_skipped(tmp_path: Path, cells: str, says: list[str]) -> None:
    rest = "" if cells.startswith('"') else "c2,2,2\n"
    path = write(tmp_path / "a.csv", f"card_id,amount,event_time\nc0,0,0\n{cells}\n{rest or 'c2,2,2'}")
    message = fails(path, max_line_bytes=200)
    assert all(part in message for part in says), message
    with open_events(path, fields=FIELDS, key="card_id", bad_rows="skip", max_line_bytes=200) as file:
        batches = list(file)
    assert [key for batch in batches for key in batch.keys] == [b"c0", b"c2"][: 2 if rest else 1]
    assert file.skipped == 1
    assert file.first_skipped is not None
    assert file.first_skipped in message


def test_the_bad_row_that_stands_first_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "card_id,amount,event_time\n1,1,0\n2,NaN,0\n3,1,0,4\n4,1,x\n")
    with open_events(path, fields=FIELDS, key="card_id", bad_rows="skip") as file:
        assert [batch.keys for batch in file] == [[b"1"]]
        assert file.skipped == 3
        assert "line 3: " in (file.first_skipped or "")


def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "CUSTOMER_ID,amount,when\n1,2,3\n")
    message = fails(path, columns={"card_id": "CUSTOMER"})
    assert "`CUSTOMER` (for `card_id`), `event_time` (for `event_time`)" in message
    assert "got `CUSTOMER_ID`, `amount`, `when`" in message
    assert "`nation`" in fails(path, columns={"card_id": "CUSTOMER_ID", "event_time": "when", "country": "nation"})
    twice = write(tmp_path / "b.csv", "card_id,card_id,amount,event_time\n1,1,2,3\n")
    assert "one column `card_id`, got 2" in fails(twice)


def test_jsonl_goes_through_untouched(tmp_path: Path) -> None:
    lines = [
        b'{"amount": 1.50,  "card_id":"c1", "x":[1]}',
        b"not json",
        b'{"card_id":7}',
        b'{"card_id":null}',
        b'{"card_id":"\xff"}',
        b"\xff\xfe",
        b"[" * 5_000,
        b'{"amount":"poison"}',
    ]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n\n  \n")
    with open_events(path, fields=FIELDS, key="card_id", batch_rows=3) as file:
        batches = list(file)
    assert [value for batch in batches for value in batch.values] == lines
    assert [key for batch in batches for key in batch.keys] == [b"c1", None, b"7", None, None, None, None, None]
    assert [batch.rows for batch in batches] == [[1, 2, 3], [4, 5, 6], [7, 8]]


@pytest.mark.parametrize("columns", [{}, {"card_id": "card_id"}])
def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path, columns: dict[str, str]) -> None:
    line = b'{"transaction_id":"t","card_id":"c","terminal_id":"m","amount":1.0,"event_time":1740830400000}'
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + line + b"\r\n" + line)
    with open_events(path, fields=FIELDS, key="card_id", columns=columns) as file:
        (batch,) = file
    assert batch.keys == [b"c", b"c"]
    assert batch.values[0] == batch.values[1]


@pytest.mark.parametrize("bad_rows", ["stop", "skip"])
@pytest.mark.parametrize(("ending", "encoding"), [("csv", "utf-16-le"), ("csv", "utf-16-be"), ("jsonl", "utf-16-le")])
def test_utf_16_is_called_what_it_is(tmp_path: Path, ending: str, encoding: str, bad_rows: str) -> None:
    path = tmp_path / f"events.{ending}"
    path.write_bytes("\N{ZERO WIDTH NO-BREAK SPACE}card_id,amount\r\nc1,2\r\n".encode(encoding))
    with pytest.raises(FileError, match=r"events\..*: expected UTF-8, got UTF-16; save the file as UTF-8"):
        read(path, bad_rows=bad_rows)


def test_jsonl_with_names_is_encoded_anew(tmp_path: Path) -> None:
    good = '{"CUSTOMER_ID": 5, "TX_AMOUNT": 2, "TX_DATETIME": "2018-04-01T12:00:00Z", "x": 1}'
    path = write(tmp_path / "a.jsonl.gz", f"{good}\n\n{good}\n")
    assert read(path, columns=NAMES) == [{"card_id": "5", "amount": 2.0, "event_time": NOON}] * 2
    for bad, says in [
        ("[]", "line 2: expected a JSON object, got list"),
        ("{", "line 2: expected a JSON object"),
        (good.replace("2,", '"2 EUR",', 1), "`TX_AMOUNT`"),
        (good.replace("2,", "true,", 1), "`TX_AMOUNT`"),
        (good.replace('"TX_AMOUNT": 2, ', ""), "got nothing"),
    ]:
        path = write(tmp_path / "b.jsonl", f"{good}\n{bad}\n{good}\n")
        assert says in fails(path, columns=NAMES)
        assert len(read(path, columns=NAMES, bad_rows="skip")) == 2


def test_parquet_types(tmp_path: Path) -> None:
    noon = datetime(2018, 4, 1, 12)  # noqa: DTZ001 - naive on purpose: taken as UTC
    whole = {"CUSTOMER_ID": [1, 2], "TX_AMOUNT": [1.5, 2.0], "TX_DATETIME": pa.array([noon, noon], pa.timestamp("ns"))}
    expected = [
        {"card_id": "1", "amount": 1.5, "event_time": NOON},
        {"card_id": "2", "amount": 2.0, "event_time": NOON},
    ]
    path = tmp_path / "a.parquet"
    assert read(table(path, whole), columns=NAMES) == expected
    variants: list[dict[str, Any]] = [
        {"CUSTOMER_ID": pa.array(["1", "2"]).dictionary_encode()},
        {"CUSTOMER_ID": pa.array([1.0, 2.0])},
        {"TX_AMOUNT": pa.array([1.5, 2.0], pa.float32())},
        {"TX_AMOUNT": pa.array([1.5, 2.0]).cast(pa.decimal128(10, 2))},
        {"TX_DATETIME": pa.array([noon.replace(tzinfo=UTC)] * 2, pa.timestamp("us", tz="Europe/Berlin"))},
        {"TX_DATETIME": [NOON, NOON]},
        {"TX_DATETIME": ["2018-04-01 12:00:00", "2018-04-01T12:00:00Z"]},
    ]
    for change in variants:
        assert read(table(path, whole | change), columns=NAMES) == expected
    day = read(table(path, whole | {"TX_DATETIME": [date(2018, 4, 1)] * 2}), columns=NAMES)
    assert day[0]["event_time"] == NOON - 43_200_000


def test_parquet_bad_and_missing_values(tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "card_id": [1, None, 3, 4],
        "amount": [1.0, 2.0, float("nan"), 4.0],
        "event_time": [0, 1, 2, 3],
        "country": ["DE", "FR", None, None],
    }
    path = table(tmp_path / "a.parquet", columns)
    assert "row 2: column `card_id`: expected a text in UTF-8 or a whole number, got nothing" in fails(path)
    with open_events(path, fields=FIELDS, key="card_id", bad_rows="skip") as file:
        (batch,) = file
    assert batch.rows == [1, 4]
    assert [json.loads(value)["card_id"] for value in batch.values] == ["1", "4"]
    assert "country" not in json.loads(batch.values[1])
    assert file.skipped == 2


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path / "a.parquet", {"card_id": [1]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    message = fails(path)
    assert "pip install 'headrace[parquet]'" in message
    assert "`parquet`" in message


def test_files_that_are_none(tmp_path: Path) -> None:
    assert "there is no such file" in fails(tmp_path / "a.csv")
    assert "got a folder" in fails(tmp_path)
    assert "empty file" in fails(write(tmp_path / "e.csv", ""))
    assert "ending in one of .csv" in fails(write(tmp_path / "a.xml", "<a/>"))
    assert "expected a Parquet file" in fails(write(tmp_path / "a.parquet", "no parquet at all"))
    assert "gzip data are damaged" in fails(write(tmp_path / "a.csv", "card_id,amount\n").rename(tmp_path / "b.csv.gz"))
    with pytest.raises(FileError, match="expected the key to be one of the fields, got 'user_id'"):
        open_events(tmp_path / "e.csv", fields=FIELDS, key="user_id")


@pytest.mark.parametrize("bad_rows", ["stop", "skip"])
def test_truncated_gzip_fails_after_what_could_be_read(tmp_path: Path, bad_rows: Any) -> None:
    rows = "".join(f"c{number},{number * 7919 % 1000},{number}\n" for number in range(20_000))
    path = write(tmp_path / "a.csv.gz", f"card_id,amount,event_time\n{rows}")
    path.write_bytes(path.read_bytes()[:-2_000])
    seen = 0
    damaged = pytest.raises(FileError, match=r"after line \d+: its gzip data are damaged or end early")
    with open_events(path, fields=FIELDS, key="card_id", bad_rows=bad_rows, batch_rows=100) as file, damaged:
        for batch in file:
            seen += len(batch.values)
    assert 10_000 < seen < 20_000


def test_batches_are_bounded_and_progress_grows(tmp_path: Path) -> None:
    rows = "".join(f"c{number},1,{number}\n" for number in range(10_000))
    text = write(tmp_path / "a.csv", f"card_id,amount,event_time\n{rows}")
    columns: dict[str, Any] = {"card_id": range(10_000), "amount": [1.0] * 10_000, "event_time": range(10_000)}
    for path in (text, table(tmp_path / "a.parquet", columns, row_group_size=1_000)):
        with open_events(path, fields=FIELDS, key="card_id", batch_rows=300) as file:
            progress = [(len(batch.values), file.bytes_read) for batch in file]
            assert sum(size for size, _ in progress) == 10_000
            assert max(size for size, _ in progress) == 300
            read_bytes = [done for _, done in progress]
            assert read_bytes == sorted(read_bytes)
            assert len(set(read_bytes)) > 10
            assert read_bytes[-1] == file.total_bytes


@pytest.mark.skipif(not FOREIGN.exists(), reason="needs the foreign transactions in ../shared/data")
def test_a_foreign_file_of_transactions() -> None:
    with open_events(FOREIGN, fields=FIELDS, key="card_id", columns=NAMES) as file:
        batch = next(iter(file))
        rest = sum(len(batch.values) for batch in file)
    assert json.loads(batch.values[0]) == {"card_id": "596", "amount": 57.16, "event_time": 1522540831000}
    assert len(batch.values) + rest == 1_303_778


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_booleans_are_words_or_0_and_1(tmp_path: Path, ending: str) -> None:
    given: dict[str, list[Any]] = {
        "csv": ["1", "0", "true", "False", " TRUE "],
        "jsonl": [1, 0, True, False, "true"],
        "parquet": [True, False, True, False, True],
    }
    path = tmp_path / f"a.{ending}"
    if ending == "parquet":
        table(path, {"card_id": ["c"] * 5, "FRAUD": given[ending]})
    elif ending == "jsonl":
        write(path, "".join(json.dumps({"card_id": "c", "FRAUD": each}) + "\n" for each in given[ending]))
    else:
        write(path, "card_id,FRAUD\n" + "".join(f"c,{each}\n" for each in given[ending]))
    fields = (Field("card_id", "string"), Field("fraud", "boolean"))
    found = [row["fraud"] for row in read(path, fields=fields, columns={"fraud": "FRAUD"})]
    assert found == [True, False, True, False, True]
    assert all(isinstance(each, bool) for each in found)


@pytest.mark.parametrize("cell", ["yes", "2", "-1", "0.5", "t", "None"])
def test_what_is_no_boolean_is_said(tmp_path: Path, cell: str) -> None:
    path = write(tmp_path / "a.csv", f"card_id,fraud\nc,{cell}\n")
    message = fails(path, fields=(Field("card_id", "string"), Field("fraud", "boolean")))
    assert f"column `fraud`: expected true, false, 1 or 0, got '{cell}'" in message
