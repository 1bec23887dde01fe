"""Training and test questions of the studies: `python3 prepare.py DATA OUT`.

DATA holds medmcqa_dev60.jsonl (MIRAGE), igakuqa_part65.jsonl (IgakuQA) and pubmedqa_pqal_train500.jsonl (PQA-L), one
question a line as docs/formats.md says. A question's part depends on the hash of its id alone, so that rows can be
added without moving others from training to test.
"""

import hashlib
import json
import pathlib
import sys

# Name, file, training questions, test questions.
SETS = [
    ("medmcqa", "medmcqa_dev60.jsonl", 200, 400),
    ("igakuqa", "igakuqa_part65.jsonl", 200, 160),
    ("pubmedqa", "pubmedqa_pqal_train500.jsonl", 200, 120),
]
KEPT = ("id", "question", "options", "answer", "subject", "context", "difficulty")


def is_question(row):
    """Some of IgakuQA's options are the translating model's apology in place of a translation."""
    apology = ("translat", "no context provided")
    return not any(word in option.lower() for option in row["options"] for word in apology)


def main(data, out):
    out.mkdir(parents=True, exist_ok=True)
    for name, file, train, test in SETS:
        rows = [json.loads(line) for line in (data / file).open(encoding="utf-8")]
        rows = [{key: row[key] for key in KEPT if row.get(key, "") != ""} for row in rows if is_question(row)]
        rows.sort(key=lambda row: hashlib.sha256(row["id"].encode()).digest())
        assert len(rows) >= train + test, f"{file}: found {len(rows)} questions, needed {train + test}"
        for part, chosen in (("train", rows[:train]), ("test", rows[-test:])):
            with (out / f"{name}_{part}.jsonl").open("w", encoding="utf-8") as lines:
                lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in chosen)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
