#!/usr/bin/env python3
"""Makes parquet/: small files as pyarrow writes them, and as JSONL what pyarrow reads of them.

    python make_parquet.py [OUT]

README.md describes the files. Needs pyarrow; `cargo xtask golden` provides it.
"""
import datetime
import json
import pathlib
import sys

import pyarrow as pa
import pyarrow.parquet as pq

QUESTIONS = [
    dict(question="1 + 1?", options=["1", "2, or \"two\""], answer=1, subject="sums", difficulty=0.5, topic=3),
    dict(id="x", question="Two\nlines?", options=["ü", "不", "no"], answer=0, subject="words", difficulty=-2.25,
         teacher=[0.5, 0.25, 0.25], context="Lines end."),
    dict(question="42", options=["a", "b", "c", "d"], answer=3, subject="sums", difficulty=1e-3, source="s", weight=2.0),
    dict(question="Which?", options=["this", "that"], answer=0, subject="words", difficulty=3.0, topic=-1),
    dict(question="How many?", options=["none", "one"], answer=1, subject="sums", difficulty=0.1),
]
# What JSON has no values for: these columns are left out.
OTHERS = dict(picture=b"\x89PNG", when=datetime.datetime(2024, 7, 26), price=None)
QUESTION = pa.schema([
    ("id", pa.string()), ("picture", pa.binary()), ("question", pa.large_string()),
    ("options", pa.list_(pa.string())), ("answer", pa.int64()), ("subject", pa.dictionary(pa.int32(), pa.string())),
    ("difficulty", pa.float64()), ("when", pa.timestamp("us")), ("teacher", pa.list_(pa.float32())),
    ("context", pa.string()), ("source", pa.string()), ("weight", pa.float32()), ("topic", pa.int8()),
    ("price", pa.decimal128(8, 2)),
])
MESSAGES = [
    dict(messages=[dict(role="user", content="2 + 2?"), dict(role="assistant", content="4")], id=7, checked=True),
    dict(messages=[dict(role="system", content=""), dict(role="user", content="Hi"),
                   dict(role="assistant", content="Hello 🙂")], id=2**40),
]
MESSAGE = pa.schema([
    ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))), ("id", pa.uint64()),
    ("checked", pa.bool_()),
])
# Some of each row group's pages are dictionaries' indices, others are not; a row group has 100 rows.
TOKENS = [dict(input_ids=list(range(1, 2 + i % 7)) + [i % 32], labels=[-100] * (1 + i % 7) + [i % 32])
          for i in range(350)]
TOKEN = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.large_list(pa.int64()))])


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent
    out = out / "parquet"
    out.mkdir(exist_ok=True)
    for name, rows, schema, options in [
        ("mcqa", [dict(OTHERS, **row) for row in QUESTIONS], QUESTION, dict(compression="snappy", row_group_size=2)),
        ("messages", MESSAGES, MESSAGE, dict(compression="zstd", data_page_version="2.0")),
        ("tokens", TOKENS, TOKEN, dict(compression="none", row_group_size=100, data_page_size=512)),
    ]:
        pq.write_table(pa.Table.from_pylist(rows, schema), out / f"{name}.parquet", **options)
        found = pq.read_table(out / f"{name}.parquet").to_pylist()
        lines = [{key: value for key, value in row.items() if key not in OTHERS} for row in found]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (out / f"{name}.jsonl").write_text(text, encoding="utf-8")
    # what a reader must refuse: a number that is none, and the formats' keys in other types
    bad = pa.table({"question": ["a", "b"], "options": [["x", "y"]] * 2, "answer": [0, 1],
                    "difficulty": pa.array([0.5, float("nan")], pa.float64())})
    pq.write_table(bad, out / "nan.parquet")


if __name__ == "__main__":
    main()
