#!/usr/bin/env python3
"""How training's speed and memory grow: with the length, the batch, the rank, the threads and the model.

    python growth.py PRECEPTOR MODEL --data QUESTIONS.jsonl --out STEM [--updates 3] [--only NAME ...]

PRECEPTOR is the program, MODEL a Hugging Face directory, the small one. The large model has random weights: 1.1
billion of them, in the shape of TinyLlama, in bf16, made in a temporary folder. Tokens are random too, the last of
each example carries loss, nothing is shared. Each row is `preceptor bench` of one warm-up and `--updates` updates;
the median counts. The last table is `preceptor order` of ever more rows: QUESTIONS over and over, with ids of their own.
Writes STEM/NAME.json for each table and, from all there are, the generated part of STEM.md. Standard library only.
"""
import argparse
import json
import os
import pathlib
import platform
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time

# Tokens of an update, unless a row says otherwise: enough for a long GEMM, few enough to wait for.
TOKENS = 2048
BASE = dict(length=128, batch=TOKENS // 128, rank=16, threads=0, model="small")
LARGE = dict(
    model_type="llama", architectures=["LlamaForCausalLM"], hidden_size=2048, intermediate_size=5632,
    num_hidden_layers=22, num_attention_heads=32, num_key_value_heads=4, vocab_size=32000,
    max_position_embeddings=8192, rms_norm_eps=1e-5, rope_theta=10000.0, hidden_act="silu",
    tie_word_embeddings=False, torch_dtype="bfloat16",
)


def tensors(config):
    """Names and shapes of a Llama model."""
    wide, between = config["hidden_size"], config["intermediate_size"]
    narrow = wide // config["num_attention_heads"] * config["num_key_value_heads"]
    yield "model.embed_tokens.weight", [config["vocab_size"], wide]
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        for name, out, into in [
            ("self_attn.q_proj", wide, wide), ("self_attn.k_proj", narrow, wide), ("self_attn.v_proj", narrow, wide),
            ("self_attn.o_proj", wide, wide), ("mlp.gate_proj", between, wide), ("mlp.up_proj", between, wide),
            ("mlp.down_proj", wide, between),
        ]:
            yield f"{at}.{name}.weight", [out, into]
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"{at}.{name}.weight", [wide]
    yield "model.norm.weight", [wide]
    yield "lm_head.weight", [config["vocab_size"], wide]


def write_large(folder):
    """A block of random weights, over and over: what they are does not matter, that they are no zeros does."""
    (folder / "config.json").write_text(json.dumps(LARGE))
    numbers, header, offset = random.Random(1), {}, 0
    for name, shape in tensors(LARGE):
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = dict(dtype="BF16", shape=shape, data_offsets=[offset, offset + size])
        offset += size
    block = b"".join(struct.pack("<f", numbers.gauss(0.0, 0.02))[2:] for _ in range(1 << 19))
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for start in range(0, offset, len(block)):
            out.write(block[: offset - start])


def train(options, scratch, folders, row):
    """Speed and memory of an update, by `bench`."""
    settings = BASE | row
    vocabulary = json.loads((folders[settings["model"]] / "config.json").read_text())["vocab_size"]
    numbers, count = random.Random(2), settings["batch"] * (options.updates + 1)
    data = scratch / "data.jsonl"
    with open(data, "w") as out:
        for _ in range(count):
            ids = [numbers.randrange(vocabulary) for _ in range(settings["length"])]
            labels = [-100] * (len(ids) - 1) + ids[-1:]
            out.write(json.dumps(dict(input_ids=ids, labels=labels)) + "\n")
    config = scratch / "run.toml"
    config.write_text(f"""
[model]
path = {json.dumps(str(folders[settings["model"]]))}
[adapter]
r = {settings["rank"]}
lora_alpha = {2 * settings["rank"]}
[data]
train = {json.dumps(str(data))}
format = "tokens"
max_seq_length = {settings["length"]}
[sampler]
strategy = "sequential"
[train]
batch_size = {settings["batch"]}
share_prefixes = "off"
micro_batch_tokens = {TOKENS}
[device]
threads = {settings["threads"]}
[output]
dir = "not-written"
""")
    saved = scratch / "saved.json"
    command = [options.preceptor, "bench", config, "--warmup", "1", "--updates", str(options.updates), "--out", saved]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = json.loads(saved.read_text())
    units = found["units"][found["warmup"]:]
    return dict(
        speed=statistics.median(u["tokens"]["real"] / u["seconds"] for u in units),
        work=statistics.median(u["flops"] / u["seconds"] for u in units) / statistics.median(found["peak_flops"]),
        arena=found["memory_bytes"] / 2**20,
        process=found["process_bytes"] / 2**20,
    )


COLUMNS = dict(
    megabytes=("MB", "{:.0f}"), seconds=("seconds", "{:.2f}"), speed=("real tokens/s", "{:.0f}"),
    work=("MFU, %", "{:.0%}"), arena=("activations, MiB", "{:.0f}"), process=("process, MiB", "{:.0f}"),
)


def table(saved):
    name, rows = saved["name"], saved["rows"]
    columns = [(key, *form) for key, form in COLUMNS.items() if key in rows[0]["found"]]
    heads = [name, *(head for _, head, _ in columns)]
    lines = [f"### By {name}", "", saved["about"], "", f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for row in rows:
        cells = [str(row["label"]), *(form.format(row["found"][key]).rstrip("%") for key, _, form in columns)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def order(options, scratch, _folders, row):
    """Seconds and memory of ordering by category and difficulty."""
    questions = [json.loads(line) for line in open(options.data)]
    numbers, data = random.Random(3), scratch / "rows.jsonl"
    with open(data, "w") as out:
        for i in range(row["rows"]):
            question = questions[i % len(questions)] | dict(id=f"q{i}", difficulty=round(numbers.random(), 4))
            out.write(json.dumps(question, ensure_ascii=False) + "\n")
    command = [options.preceptor, "order", "--data", data, "--strategy", "interleaved-curriculum"]
    runs = []
    for _ in range(3):
        start = time.perf_counter()
        process = subprocess.Popen([*command, "--out", scratch / "order.jsonl"], stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"error: ordering {row['rows']} rows failed")
        runs.append((time.perf_counter() - start, usage.ru_maxrss / 1024))
    seconds, memory = min(runs)
    return dict(megabytes=data.stat().st_size / 1e6, seconds=seconds, process=memory)


# How each table is measured, and its rows.
TABLES = {
    "length": (train, [dict(length=n, batch=max(TOKENS // n, 1)) for n in (64, 256, 1024, 2048, 4096, 8192)]),
    "batch": (train, [dict(batch=n) for n in (1, 2, 4, 8, 16, 32)]),
    "rank": (train, [dict(rank=n) for n in (4, 16, 64, 256)]),
    "threads": (train, [dict(threads=n) for n in range(1, (os.cpu_count() or 1) + 1)]),
    "model": (train, [dict(model=m, batch=4) for m in ("small", "large")]),
    "rows": (order, [dict(rows=n) for n in (10_000, 100_000, 1_000_000)]),
}
# Which of the runs counts.
COUNTED = {train: "medians of {updates} updates after 1", order: "the best of three runs of `order`"}
LABELS = dict(small="135M", large="1.1B, random")


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preceptor", type=pathlib.Path)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--updates", type=int, default=3)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    machine = f"{processor()}, {os.cpu_count()} threads"
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        folders = dict(small=options.model.resolve(), large=scratch / "large")
        if "model" in options.only:
            folders["large"].mkdir()
            write_large(folders["large"])
        for name in options.only:
            measure, rows = TABLES[name]
            saved = []
            for row in rows:
                label, found = LABELS.get(row[name]) or f"{row[name]:,}", measure(options, scratch, folders, row)
                saved.append(dict(label=label, found=found))
                print(name, label, {key: round(value, 2) for key, value in found.items()}, flush=True)
            about = f"{machine}; {COUNTED[measure].format(updates=options.updates)}."
            (options.out / f"{name}.json").write_text(json.dumps(dict(name=name, about=about, rows=saved), indent=1) + "\n")
    write_page(options.out)


def write_page(stem):
    start, end = "<!-- generated by `cargo xtask growth` -->", "<!-- end of the generated part -->"
    page = stem.with_suffix(".md")
    saved = [stem / f"{name}.json" for name in TABLES]
    text = "\n".join(table(json.loads(file.read_text())) for file in saved if file.exists())
    old = page.read_text() if page.exists() else f"# How the CPU's work grows\n\n{start}\n{end}\n"
    before, rest = old.split(start)
    page.write_text(f"{before}{start}\n\n{text}\n{end}{rest.split(end)[1]}")


if __name__ == "__main__":
    main()
