#!/usr/bin/env python3
"""Lets PEFT, Transformers and TensorBoard read what preceptor writes, for every golden model.

    python peers.py PRECEPTOR GOLDEN

PRECEPTOR is the program, GOLDEN the folder tests/golden. Stops at the first disagreement.
Needs torch, transformers, peft, safetensors and tensorboard; `cargo xtask peers` provides them.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM

PER_TOKEN = 1e-5  # how far a token's NLL may differ: some roundings of f32, whatever the order of sums

CONFIG = """
[model]
path = {model}
[adapter]
r = {r}
lora_alpha = {lora_alpha}
target_modules = {target_modules}
use_rslora = {use_rslora}
[adapter.rank_pattern]
{rank_pattern}
[adapter.alpha_pattern]
{alpha_pattern}
[data]
train = {data}
format = "tokens"
[train]
epochs = 4
batch_size = 3
learning_rate = 5e-3
[device]
kind = "cpu"
[output]
dir = {out}
"""


def write_data(case, path):
    """The examples of all batches as lines of format `tokens`; they are also returned."""
    batches = load_file(case / "batches.safetensors")
    examples = []
    for i in range(json.loads((case / "case.json").read_text())["settings"]["batches"]):
        for ids, labels, mask in zip(*(batches[f"b{i}.{k}"] for k in ("input_ids", "labels", "attention_mask"))):
            n = int(mask.sum())
            examples.append(dict(id=f"e{len(examples)}", input_ids=ids[:n].tolist(), labels=labels[:n].tolist()))
    path.write_text("".join(json.dumps(e) + "\n" for e in examples))
    return examples


def write_config(case, data, out, path):
    """A training run with the settings of the case's own adapter."""
    lora = json.loads((case / "adapter_random/adapter_config.json").read_text())

    def table(name):
        return "\n".join(f"{json.dumps(k)} = {v}" for k, v in lora[name].items())

    values = {k: json.dumps(lora[k]) for k in ("r", "lora_alpha", "target_modules", "use_rslora")}
    values.update(model=json.dumps(str(case / "model")), data=json.dumps(str(data)), out=json.dumps(str(out)))
    path.write_text(CONFIG.format(**values, **{k: table(k) for k in ("rank_pattern", "alpha_pattern")}))


def load(folder):
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    wrong = {k: v for k, v in info.items() if v}
    assert not wrong, f"{folder}: Transformers complains: {wrong}"
    return model.eval()


def load_adapted(model, adapter):
    """PEFT's model; every stored tensor must have found its place."""
    adapted = PeftModel.from_pretrained(load(model), adapter).eval()
    stored = load_file(adapter / "adapter_model.safetensors")
    held = {n.replace(".default", ""): p for n, p in adapted.named_parameters() if "lora_" in n}
    assert held.keys() == stored.keys(), f"{adapter}: {held.keys() ^ stored.keys()}"
    assert all(torch.equal(held[n], t) for n, t in stored.items()), f"{adapter}: PEFT holds other values"
    return adapted


def sums(model, examples):
    """(trained tokens, sum of their NLLs) of each example."""
    found = {}
    for e in examples:
        labels = torch.tensor(e["labels"][1:])
        keep = labels != -100
        with torch.no_grad():
            nll = -model(input_ids=torch.tensor([e["input_ids"]])).logits[0, :-1].log_softmax(-1)
        found[e["id"]] = (int(keep.sum()), nll[keep].gather(1, labels[keep][:, None]).sum().item())
    return found


def compare(what, preceptor, data, expected, *arguments):
    """Our scores of the data must be the expected ones."""
    output = run(preceptor, "score", *arguments, "--data", data)
    ours = {line["id"]: line for line in map(json.loads, output.splitlines())}
    assert ours.keys() == expected.keys(), f"{what}: ids {list(ours)}"
    worst = 0.0
    for example, (tokens, total) in expected.items():
        assert ours[example]["tokens"] == tokens, f"{what}: {example}: {ours[example]} has not {tokens} tokens"
        worst = max(worst, abs(ours[example]["sum_nll"] - total) / tokens)
    assert worst <= PER_TOKEN, f"{what}: NLL differs by {worst:.1e} a token"
    print(f"  {what}: NLL differs by at most {worst:.1e} a token")


def compare_merged(folder, adapted):
    """Each merged weight is PEFT's, but for its rounding to the type it is stored in."""
    expected = adapted.merge_and_unload().state_dict()
    for file in folder.glob("*.safetensors"):
        for name, tensor in load_file(file).items():
            limit = torch.finfo(tensor.dtype).eps * expected[name].abs() + 1e-6
            assert ((tensor.float() - expected[name]).abs() <= limit).all(), f"{file}: {name} is not PEFT's"


def compare_events(out):
    """TensorBoard reads the losses that metrics.jsonl holds."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(out)).Reload()
    for key in ("loss", "grad_norm", "learning_rate"):
        ours = [(line["step"], line[key]) for line in lines if key in line]
        theirs = [(event.step, event.value) for event in events.Scalars(f"train/{key}")]
        assert len(ours) == len(theirs) > 0, f"{key}: {len(ours)} lines, {len(theirs)} events"
        for (step, value), (event_step, event_value) in zip(ours, theirs):
            assert step == event_step and abs(value - event_value) <= 1e-6 * abs(value), f"{key} of step {step}"


def run(program, *arguments):
    result = subprocess.run([str(program), *map(str, arguments)], stdout=subprocess.PIPE, text=True,
                            env=dict(os.environ, RUST_LOG="warn"))
    assert result.returncode == 0, f"{program} {arguments}: exit code {result.returncode}"
    return result.stdout


def check(preceptor, case, work):
    data, config, out, merged = (work / name for name in ("data.jsonl", "config.toml", "out", "merged"))
    examples = write_data(case, data)
    write_config(case, data, out, config)
    model, adapter = case / "model", out / "adapter"
    run(preceptor, "train", config)
    run(preceptor, "merge", "--model", model, "--adapter", adapter, "--out", merged)

    theirs = load_adapted(model, case / "adapter_random")
    compare("PEFT's adapter, read by us", preceptor, data, sums(theirs, examples),
            "--model", model, "--adapter", case / "adapter_random")
    trained = load_adapted(model, adapter)
    assert any(p.abs().max() > 0 for n, p in trained.named_parameters() if "lora_B" in n), "training moved nothing"
    compare("our adapter, read by PEFT", preceptor, data, sums(trained, examples),
            "--model", model, "--adapter", adapter)
    compare("our merged model, read by Transformers", preceptor, data, sums(load(merged), examples),
            "--model", merged)
    compare_merged(merged, trained)
    compare_events(out)


def main():
    preceptor, golden = map(pathlib.Path, sys.argv[1:])
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    cases = sorted(path.parent for path in golden.glob("*/case.json"))
    assert cases, f"{golden} holds no case"
    for case in cases:
        print(case.name, flush=True)
        with tempfile.TemporaryDirectory() as work:
            check(preceptor, case, pathlib.Path(work))
    print(f"{len(cases)} models: PEFT, Transformers and TensorBoard agree")


if __name__ == "__main__":
    main()
