#!/usr/bin/env python3
"""Makes the golden cases: tiny random models and what Transformers and PEFT compute on them.

    python make.py [OUT] [--only NAME,...]

The stored numbers are computed in float64 (then rounded to f32); `noise` in case.json is how far the same
libraries in f32 are from them, so a tolerance can be derived instead of tuned. README.md describes the files.
Needs torch, transformers, peft and safetensors; `cargo xtask golden` provides them.
"""
import argparse
import contextlib
import json
import math
import os
import pathlib
import shutil
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM

from cases import CASES

STEPS, WARMUP, PEAK_RATE, WEIGHT_DECAY, CLIP = 10, 3, 5e-3, 0.01, 1.0
BETAS, EPSILON = (0.9, 0.999), 1e-8
POSITIONS, PROMPT, GREEDY = 16, 30, 20
FULL_STEPS = 3
TORCH_DTYPE = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class AllDouble(TorchDispatchMode):
    """Fails on the first operation that returns anything narrower than float64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in torch.utils._pytree.tree_leaves(out):
            if isinstance(t, torch.Tensor) and t.is_floating_point() and t.dtype != DOUBLE:
                raise TypeError(f"{func} returned {t.dtype}")
        return out


DOUBLE, SINGLE = torch.float64, torch.float32


@contextlib.contextmanager
def everything_in(dtype):
    """The model code asks for `torch.float32` by name in norms, softmax and rotary angles: for a truth in
    float64 these names must mean float64 too."""
    if dtype == SINGLE:
        yield
        return
    old = torch.float32, torch.float, torch.Tensor.float
    torch.float32 = torch.float = DOUBLE
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(DOUBLE)
    try:
        with AllDouble():
            yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = old
        torch.set_default_dtype(SINGLE)


# ---- what goes in: weights, adapters, batches


def write_model(case, folder, generator):
    """config.json and the weights: every parameter gets a value that matters, norms and biases included."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(case.config, indent=1) + "\n")
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    tensors = {}
    for name, p in sorted(model.named_parameters()):
        x = torch.randn(p.shape, generator=generator)
        if "norm" in name:
            x = 0.1 * x + (0.0 if case.config["model_type"].startswith("gemma") else 1.0)
        elif name.endswith("bias"):
            x = 0.1 * x
        else:
            x = x * ((0.5 if "embed" in name else 1.0) / math.sqrt(p.shape[-1]))
        tensors[name] = x.to(TORCH_DTYPE[case.dtype])
    if case.shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names, where = sorted(tensors), {}
    for i in range(case.shards):
        file = f"model-{i + 1:05}-of-{case.shards:05}.safetensors"
        part = names[i::case.shards]
        save_file({n: tensors[n] for n in part}, folder / file, metadata={"format": "pt"})
        where.update({n: file for n in part})
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    index = dict(metadata=dict(total_size=size), weight_map=dict(sorted(where.items())))
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def make_batches(case, generator):
    """Right-padded examples with something to learn: the answer repeats the prompt.

    Batch 1 has holes in its labels; batch 2 trains every token, so its labels[0] must be ignored."""
    def integer(low, high):
        return int(torch.randint(low, high, (1,), generator=generator))

    batches = []
    for i, lengths in enumerate(case.lengths):
        shape = (len(lengths), max(lengths))
        ids, mask = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
        labels = torch.full(shape, -100, dtype=torch.int64)
        for row, n in enumerate(lengths):
            start = integer(max(1, n // 5), n // 2 + 1)
            prompt = torch.randint(3, case.config["vocab_size"], (start,), generator=generator)
            ids[row, :n] = prompt.repeat(n // start + 1)[:n]
            mask[row, :n] = 1
            first = 0 if i == 2 else start
            labels[row, first:n] = ids[row, first:n]
            if i == 1:
                labels[row, start + 1:n - 1:3] = -100
        batch = dict(input_ids=ids, labels=labels, attention_mask=mask)
        if case.weights:
            batch["weight"] = torch.rand(len(lengths), generator=generator) * 2 + 0.25
        if case.smoothing:
            batch["smoothing"] = torch.rand(len(lengths), generator=generator) * 0.3
        batches.append(batch)
    return batches


def write_adapter(case, model_folder, folder, generator):
    """A PEFT adapter in which neither A nor B is zero."""
    base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=SINGLE)
    lora = get_peft_model(base, LoraConfig(**case.lora, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, p in sorted(lora.named_parameters()):
            if "lora_A" in name:
                p.copy_((torch.rand(p.shape, generator=generator) * 2 - 1) / math.sqrt(p.shape[1]))
            elif "lora_B" in name:
                p.copy_(0.05 * torch.randn(p.shape, generator=generator))
    lora.peft_config["default"].base_model_name_or_path = "../model"
    lora.save_pretrained(folder)
    (folder / "README.md").unlink()
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    config["target_modules"].sort()  # PEFT writes a set in the order of the process's hash seed
    file.write_text(json.dumps(config, indent=1) + "\n")


# ---- what comes out


def load(case_folder, adapter, dtype, attention):
    """The base model, or the base model under the adapter of that name, ready for gradients."""
    folder = case_folder / "model"
    stored = AutoModelForCausalLM.from_pretrained(folder, dtype=SINGLE)
    if dtype == DOUBLE:  # built anew, so that the rotary frequencies are float64 from the start
        stored = stored.double()
        with everything_in(DOUBLE):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=DOUBLE,
                                                     attn_implementation=attention)
        model.load_state_dict(stored.state_dict())
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=SINGLE, attn_implementation=attention)
    if adapter:
        model = PeftModel.from_pretrained(model, case_folder / adapter, is_trainable=True).to(dtype)
    return model.eval()


def parameters(model):
    return {n.replace(".default", ""): p for n, p in model.named_parameters() if "lora_" in n}


def logits_of(model, batch):
    """One `[T, V]` an example, each run alone: nothing is padded, so no mask can hide a mistake."""
    lengths = batch["attention_mask"].sum(1).tolist()
    return [model(input_ids=ids[None, :n]).logits[0] for ids, n in zip(batch["input_ids"], lengths)]


def loss_of(model, batch):
    """sum(w l) / sum(w) over the trained tokens; l mixes the target's NLL with the mean NLL of all ids."""
    total, weights = 0.0, 0.0
    for row, logits in enumerate(logits_of(model, batch)):
        labels = batch["labels"][row, 1:len(logits)]
        keep = labels != -100
        nll = -torch.log_softmax(logits[:-1][keep], dim=-1)
        target = nll.gather(1, labels[keep][:, None])[:, 0]
        weight = batch["weight"][row].item() if "weight" in batch else 1.0
        smoothing = batch["smoothing"][row].item() if "smoothing" in batch else 0.0
        total = total + weight * ((1 - smoothing) * target + smoothing * nll.mean(-1)).sum()
        weights += weight * keep.sum().item()
    return total / weights


def rate(scheduler, step):
    """Of the update `step`, counted from 0."""
    if step < WARMUP:
        return PEAK_RATE * (step + 1) / WARMUP
    done = (step - WARMUP) / (STEPS - WARMUP)
    return PEAK_RATE * dict(linear=1 - done, cosine=0.5 * (1 + math.cos(math.pi * done)), constant=1.0)[scheduler]


def greedy(model, prompt):
    """Greedy continuation without a cache, and how far the second-best logit stayed behind."""
    ids, margin = prompt.clone(), math.inf
    for _ in range(GREEDY):
        top = model(input_ids=ids[None]).logits[0, -1].topk(2)
        margin = min(margin, (top.values[0] - top.values[1]).item())
        ids = torch.cat([ids, top.indices[:1]])
    return ids[len(prompt):].tolist(), margin


def run(case, folder, batches, prompt, dtype, attention):
    """Everything that is stored about a case: scalars, {group: {name: tensor}}, and where logits were taken."""
    batches = [{k: v.to(dtype) if v.is_floating_point() else v for k, v in b.items()} for b in batches]
    first, scalars, groups = batches[0], {}, {}
    at = torch.nonzero(first["attention_mask"])
    at = at[torch.linspace(0, len(at) - 1, min(POSITIONS, len(at))).round().long()]

    def chosen(model):
        logits = logits_of(model, first)
        return torch.stack([logits[row][position] for row, position in at.tolist()])

    base = load(folder, None, dtype, attention)
    adapted = load(folder, "adapter_random", dtype, attention)
    trained = list(parameters(adapted).values())
    optimizer = torch.optim.AdamW(trained, lr=PEAK_RATE, betas=BETAS, eps=EPSILON, weight_decay=WEIGHT_DECAY)
    with everything_in(dtype):
        with torch.no_grad():
            scalars["loss_base"] = loss_of(base, first).item()
            forward = dict(logits=chosen(base), logits_adapter=chosen(adapted))
            tokens, margin = greedy(base, prompt)
            scalars.update(greedy_prompt=prompt.tolist(), greedy_tokens=tokens, greedy_margin=margin)
        losses, norms, rates = [], [], []
        for step in range(STEPS):
            loss = loss_of(adapted, batches[step % len(batches)])
            loss.backward()
            if step == 0:
                groups["grads_random"] = {n: p.grad.clone() for n, p in parameters(adapted).items()}
            norm = torch.nn.utils.clip_grad_norm_(trained, CLIP)
            rates.append(rate(case.scheduler, step))
            optimizer.param_groups[0]["lr"] = rates[-1]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
            norms.append(norm.item())
        with torch.no_grad():
            scalars.update(loss_random=losses[0], losses=losses, grad_norms=norms, lrs=rates,
                           loss_final=loss_of(adapted, first).item())
        groups["grads_full"], scalars["full_losses"], scalars["full_grad_norms"] = full(case, base, batches)
    groups["forward"] = forward
    groups["adapter_final"] = {n: p.detach().clone() for n, p in parameters(adapted).items()}
    return scalars, groups, at


def full(case, model, batches):
    """Every weight trained: its gradient of batch 0's loss, and the first updates' losses and gradient norms."""
    weights = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(weights.values(), lr=PEAK_RATE, betas=BETAS, eps=EPSILON, weight_decay=WEIGHT_DECAY)
    gradients, losses, norms = {}, [], []
    for step in range(FULL_STEPS):
        loss = loss_of(model, batches[step % len(batches)])
        loss.backward()
        gradients = gradients or {n: p.grad.clone() for n, p in weights.items()}
        norm = torch.nn.utils.clip_grad_norm_(weights.values(), CLIP)
        optimizer.param_groups[0]["lr"] = rate(case.scheduler, step)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        norms.append(norm.item())
    return gradients, losses, norms


def gap(x, y):
    return max((x[n].double() - y[n].double()).abs().max().item() for n in y)


def make(name, case, folder, seed):
    generator = torch.Generator().manual_seed(seed)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_model(case, folder / "model", generator)
    write_adapter(case, folder / "model", folder / "adapter_random", generator)
    batches = make_batches(case, generator)
    save_file({f"b{i}.{k}": v for i, b in enumerate(batches) for k, v in b.items()}, folder / "batches.safetensors")

    prompt = torch.randint(3, case.config["vocab_size"], (PROMPT,), generator=generator)

    scalars, groups, at = run(case, folder, batches, prompt, DOUBLE, "eager")
    noise = dict(logits=0.0, grads=0.0, grads_full=0.0, losses=0.0, full_losses=0.0, adapter_final=0.0)
    for attention in ["eager", "sdpa"]:
        other, narrow, _ = run(case, folder, batches, prompt, SINGLE, attention)
        assert other["greedy_tokens"] == scalars["greedy_tokens"], f"{name}: greedy tokens hang on rounding"
        noise["logits"] = max(noise["logits"], gap(narrow["forward"], groups["forward"]))
        noise["grads"] = max(noise["grads"], gap(narrow["grads_random"], groups["grads_random"]))
        noise["grads_full"] = max(noise["grads_full"], gap(narrow["grads_full"], groups["grads_full"]))
        for losses in ["losses", "full_losses"]:
            noise[losses] = max(noise[losses], *(abs(x - y) for x, y in zip(other[losses], scalars[losses])))
        noise["adapter_final"] = max(noise["adapter_final"], gap(narrow["adapter_final"], groups["adapter_final"]))
    noise["grads_largest"] = max(g.abs().max().item() for g in groups["grads_random"].values())
    noise["grads_full_largest"] = max(g.abs().max().item() for g in groups["grads_full"].values())
    groups["grads_full"] = {n: g.flatten()[::case.stride] for n, g in groups["grads_full"].items()}

    store = {group: {n: t.to(SINGLE).contiguous() for n, t in tensors.items()} for group, tensors in groups.items()}
    save_file(dict(store["forward"], positions=at), folder / "forward.safetensors")
    save_file(store["grads_random"], folder / "grads_random.safetensors")
    save_file(store["grads_full"], folder / "grads_full.safetensors")
    shutil.copytree(folder / "adapter_random", folder / "adapter_final")
    assert store["adapter_final"].keys() == load_file(folder / "adapter_random/adapter_model.safetensors").keys()
    save_file(store["adapter_final"], folder / "adapter_final/adapter_model.safetensors", metadata={"format": "pt"})
    settings = dict(start="adapter_random", steps=STEPS, batches=len(batches), peak_lr=PEAK_RATE, warmup=WARMUP,
                    scheduler=case.scheduler, weight_decay=WEIGHT_DECAY, clip=CLIP, betas=BETAS, eps=EPSILON, full_stride=case.stride)
    versions = dict(torch=torch.__version__, transformers=transformers.__version__, peft=peft.__version__)
    record = dict(case=name, about=case.about, settings=settings, noise=noise, **scalars, versions=versions)
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)
    (folder / "case.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"{name}: loss {scalars['losses'][0]:.4f} -> {scalars['losses'][-1]:.4f}; noise "
          + ", ".join(f"{k} {v:.1e}" for k, v in noise.items()) + f"; greedy margin {scalars['greedy_margin']:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, nargs="?", default=pathlib.Path(__file__).parent)
    parser.add_argument("--only", default="", help="names of cases, separated by commas")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    for i, (name, case) in enumerate(CASES.items()):
        if not arguments.only or name in arguments.only.split(","):
            make(name, case, arguments.out / name, seed=1000 + i)


if __name__ == "__main__":
    main()
