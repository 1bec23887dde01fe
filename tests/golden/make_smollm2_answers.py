#!/usr/bin/env python3
"""Makes smollm2_answers.json: how SmolLM2-135M-Instruct answers multiple-choice questions and goes on from
prompts, by Transformers in f64.

    python make_smollm2_answers.py MODEL QUESTIONS.jsonl OUT.json

The file names questions by their ids and does not hold them; `noise` is how far Transformers in f32 is from it.
README.md describes it.
"""
import json
import os
import pathlib
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from make import DOUBLE, SINGLE, everything_in
from make_smollm2 import doubled, exam_prompt, split

SHOTS = 3
NEW_TOKENS = 12
# Questions whose options' texts are scored, and that are asked after shots: enough to see a mistake.
OPTION_TEXTS = 16
FEW_SHOT = 10
# A choice between tokens whose logits are closer than this hangs on rounding: the text ends before it.
SMALLEST_MARGIN = 1e-3

PROMPTS = [
    "The capital of France is",
    "Once upon a time",
    "1, 2, 3, 4,",
    "def fibonacci(n):\n    \"\"\"Returns the n-th Fibonacci number.\"\"\"\n",
    "SELECT name, age FROM patients WHERE",
    "<html>\n<head>\n",
    "Die Hauptstadt von Deutschland ist",
    "La capitale de l'Italie est",
    "El corazón humano tiene",
    "日本の首都は",
    "患者发热三天,",
    "Aspirin is used to treat",
    "Q: What is the largest planet?\nA:",
    "The heart has four chambers: the right atrium, the right ventricle, the left atrium and the left ventricle. "
    "Blood returns from the body to the right atrium, passes through the tricuspid valve into the right ventricle, "
    "and is pumped through the pulmonary valve into the lungs. From the lungs it returns to the left atrium, passes "
    "through the mitral valve into the left ventricle, and is pumped through the aortic valve into the aorta. " * 3
    + "The chamber that pumps blood into the aorta is",
    "A",
    "Emoji: 🙂",
]
CONVERSATIONS = [
    [dict(role="user", content="What is the capital of Peru? Answer in one word.")],
    [dict(role="system", content="You are a helpful nurse."), dict(role="user", content="How do I treat a small cut?")],
    [dict(role="user", content="Hello!"), dict(role="assistant", content="Hello! How can I help you?"),
     dict(role="user", content="Write one line of Python that prints 42.")],
    [dict(role="user", content="Translate to German: good morning")],
]


def read(path):
    with open(path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file if line.strip()]
    for number, line in enumerate(lines, 1):
        line.setdefault("id", str(number))
    return lines


def shots_before(line, lines):
    """The first others of the same subject, or where there are too few the first others."""
    others = [other for other in lines if other is not line]
    same = [other for other in others if (other.get("subject") or None) == (line.get("subject") or None)]
    return (same if len(same) >= SHOTS else others)[:SHOTS]


def letter(index):
    return chr(ord("A") + index)


def main():
    folder, questions, out = (pathlib.Path(argument) for argument in sys.argv[1:4])
    torch.set_num_threads(1)
    transformers.logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=SINGLE).eval()
    models = {DOUBLE: doubled(model), SINGLE: model}
    noise = dict(letters=0.0, option_texts=0.0)

    @torch.no_grad()
    def logits(ids, last):
        """In f64 and in f32, which f64 holds exactly."""
        both = []
        for dtype, of in models.items():
            with everything_in(dtype):
                both.append(of(input_ids=torch.tensor([ids]), logits_to_keep=last).logits[0])
        return [of.double() for of in both]

    def measured(kind, truth, rounded):
        noise[kind] = max(noise[kind], (truth - rounded).abs().max().item())
        return truth

    def letters(prompt, line):
        parts = [split(tokenizer, prompt, f" {letter(i)}") for i in range(len(line["options"]))]
        ids, tokens = parts[0][0], [completion[0] for _, completion in parts]
        both = [of[-1][tokens].softmax(-1) for of in logits(ids, 1)]
        return ids, [round(p, 9) for p in measured("letters", *both).tolist()]

    def option(prompt, text):
        ids, completion = split(tokenizer, prompt, f" {text}")
        nll = [-of[:-1].log_softmax(-1).gather(1, torch.tensor(completion)[:, None]).sum()
               for of in logits(ids + completion, len(completion) + 1)]
        measured("option_texts", *(sum_nll / len(completion) for sum_nll in nll))
        return dict(tokens=len(completion), sum_nll=round(nll[0].item(), 9))

    @torch.no_grad()
    def greedy(ids):
        tokens, past = [], None
        feed = torch.tensor([ids])
        while len(tokens) < NEW_TOKENS:
            step = model(input_ids=feed, past_key_values=past, use_cache=True, logits_to_keep=1)
            best, second = step.logits[0, -1].topk(2).values.tolist()
            if best - second < SMALLEST_MARGIN:
                break
            past, token = step.past_key_values, step.logits[0, -1].argmax().item()
            tokens.append(token)
            if token == tokenizer.eos_token_id:
                break
            feed = torch.tensor([[token]])
        return dict(prompt_ids=ids, tokens=tokens, text=tokenizer.decode(tokens, skip_special_tokens=True))

    lines = read(questions)
    zero_shot, option_texts, few_shot = [], [], []
    for number, line in enumerate(lines):
        prompt = exam_prompt(line)
        zero_shot.append(dict(id=line["id"], probabilities=letters(prompt, line)[1]))
        if number < OPTION_TEXTS:
            option_texts.append(dict(id=line["id"], options=[option(prompt, text) for text in line["options"]]))
        if number < FEW_SHOT:
            solved = [exam_prompt(shot) + f" {letter(shot['answer'])}\n\n" for shot in shots_before(line, lines)]
            ids, probabilities = letters("".join(solved) + prompt, line)
            few_shot.append(dict(id=line["id"], prompt_tokens=len(ids), probabilities=probabilities))

    generation = [dict(prompt=prompt, **greedy(tokenizer(prompt)["input_ids"])) for prompt in PROMPTS]
    for messages in CONVERSATIONS:
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        generation.append(dict(messages=messages, **greedy(tokenizer(text, add_special_tokens=False)["input_ids"])))

    groups = dict(zero_shot=zero_shot, option_texts=option_texts, few_shot=few_shot, generation=generation)

    def rows(records):
        return ",\n".join("  " + json.dumps(record, ensure_ascii=False) for record in records)

    body = ",\n".join(f' "{name}": [\n{rows(records)}\n ]' for name, records in groups.items())
    out.write_text(f'{{\n "shots": {SHOTS},\n "noise": {json.dumps(noise)},\n{body}\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
