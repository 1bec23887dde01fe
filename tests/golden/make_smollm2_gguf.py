#!/usr/bin/env python3
"""Makes smollm2_gguf.json: what Transformers makes of the GGUF file of SmolLM2-135M-Instruct, in float64.

    python make_smollm2_gguf.py MODEL [OUT]

MODEL is the directory that `cargo xtask test` prepares; its model.gguf is read, and smollm2.json's token ids are
scored by it; `noise` is how far the same in f32 is from it. Needs torch, transformers and gguf; `cargo xtask golden` provides them.
"""
import json
import os
import pathlib
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from transformers import AutoModelForCausalLM

from make import DOUBLE, SINGLE, everything_in
from make_smollm2 import doubled


def main():
    here = pathlib.Path(__file__).parent
    out = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else here
    torch.set_num_threads(1)
    golden = json.loads((here / "smollm2.json").read_text(encoding="utf-8"))
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], gguf_file="model.gguf", dtype=torch.float32).eval()

    def measure(model, dtype):
        def log_probabilities(ids):
            with torch.no_grad(), everything_in(dtype):
                logits = model(input_ids=torch.tensor([ids])).logits[0]
            return logits.double().log_softmax(-1)

        def mean_nll(ids):
            if len(ids) < 2:
                return None
            return -log_probabilities(ids)[:-1].gather(1, torch.tensor(ids[1:])[:, None]).mean().item()

        texts = [mean_nll(text["ids"]) for text in golden["texts"]]
        questions = [log_probabilities(q["prompt_ids"])[-1][q["letter_ids"]].softmax(-1).tolist()
                     for q in golden["questions"]]
        return dict(texts=texts, questions=questions)

    narrow, truth = measure(model, SINGLE), measure(doubled(model), DOUBLE)
    gaps = [abs(x - y) for x, y in zip(narrow["texts"], truth["texts"]) if x is not None]
    for rows in zip(narrow["questions"], truth["questions"]):
        gaps += [abs(x - y) for x, y in zip(*rows)]
    (out / "smollm2_gguf.json").write_text(json.dumps(dict(truth, noise=max(gaps)), indent=1) + "\n")


if __name__ == "__main__":
    main()
