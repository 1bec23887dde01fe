#!/usr/bin/env python3
"""Makes smollm2.json: what Transformers says about SmolLM2-135M-Instruct, in f32.

    python make_smollm2.py MODEL [OUT]

MODEL is the directory that `cargo xtask test` prepares. README.md describes the file.
Needs torch and transformers; `cargo xtask golden` provides them.
"""
import json
import os
import pathlib
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from make import DOUBLE, everything_in

TEXTS = [
    "The heart pumps blood through the body.",
    " A leading blank and  two  blanks inside.",
    "don't we'll I'm they've O'Brien's",
    "In 1953, 2 scientists described 1 double helix; 70 years later it is in every textbook.",
    "3.14159 is not 22/7, and 1,000,000 is 10^6.",
    "def area(r):\n    return 3.14 * r ** 2\n",
    "\tTabs\tand\r\nline ends\n\n\nand three of them.",
    "Ein Mädchen aß fünf Äpfel im Frühling.",
    "Le garçon naïf préfère l'été à l'hiver.",
    "日本の首都は東京です。",
    "患者发热三天,咳嗽,无汗。",
    "Emoji: 🙂👩‍⚕️🇩🇪, and a combining é.",
    "SELECT name FROM patients WHERE age >= 65 AND ward = 'B';",
    "<|im_start|>user\nWhat is a tumour?<|im_end|>\n",
    "UPPER lower MiXeD snake_case camelCase kebab-case",
    "... --- ... !!! ??? (([[{{}}]]))",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "Aspirin irreversibly inhibits cyclooxygenase, which lowers the production of thromboxane A2 in "
    "platelets for the rest of their life of about ten days.",
    "To be or not to be",
    "The quick brown fox jumps over the lazy dog. " * 6,
    "Yes.",
]

QUESTIONS = [
    dict(subject="anatomy", question="Which chamber of the heart pumps blood into the aorta?",
         options=["Right atrium", "Right ventricle", "Left atrium", "Left ventricle"], answer=3),
    dict(subject="anatomy", question="How many bones has the adult human body, about?",
         options=["106", "206", "306", "406"], answer=1),
    dict(subject="nutrition", question="A lack of which vitamin causes scurvy?",
         options=["Vitamin A", "Vitamin B12", "Vitamin C", "Vitamin D", "Vitamin K"], answer=2),
    dict(subject="pharmacology", question="What is the antidote to an overdose of paracetamol?",
         options=["Naloxone", "Acetylcysteine", "Flumazenil", "Atropine"], answer=1),
    dict(subject="physiology", question="Insulin is made by which cells of the pancreas?",
         options=["Alpha cells", "Beta cells", "Delta cells"], answer=1),
    dict(subject="infection", question="Malaria is passed on by which animal?",
         options=["A tick", "A mosquito", "A flea", "A louse", "A sand fly", "A snail"], answer=1),
    dict(subject="cardiology", context="A man of 58 has crushing chest pain for one hour. His ECG shows ST elevation.",
         question="What is the most likely diagnosis?",
         options=["Myocardial infarction", "Asthma", "Gallstones", "Migraine"], answer=0),
    dict(subject="paediatrics", context="A child has a barking cough and a hoarse voice at night.",
         question="Which illness is this?", options=["Croup", "Measles"], answer=0),
    dict(subject="geography", question="What is the capital of France?",
         options=["Berlin", "Madrid", "Paris", "Rome"], answer=2),
    dict(subject="mathematics", question="What is 7 times 8?", options=["54", "56", "58", "64"], answer=1),
    dict(subject="physics", question="Water boils at sea level at which temperature?",
         options=["50 °C", "90 °C", "100 °C", "120 °C"], answer=2),
    dict(subject="tcm", question="感冒风寒证常用的方剂是哪一个?", options=["麻黄汤", "银翘散", "四君子汤", "六味地黄丸"], answer=0),
]

SHORT_SYSTEM = dict(role="system", content="Answer in one word.")
CHATS = [
    ([dict(role="user", content="Hi")], True),
    ([dict(role="user", content="Hi")], False),
    ([SHORT_SYSTEM, dict(role="user", content="Capital of Peru?")], True),
    ([SHORT_SYSTEM, dict(role="user", content="Capital of Peru?"), dict(role="assistant", content="Lima")], False),
    ([dict(role="user", content="One"), dict(role="assistant", content="Two"), dict(role="user", content="Three")], True),
    ([dict(role="user", content="  blanks around \n")], True),
    ([dict(role="user", content="")], True),
    ([dict(role="user", content="Say <|im_end|> aloud & \"quote\" it")], True),
    ([dict(role="user", content="头痛怎么办?"), dict(role="assistant", content="多休息。\n\n1. 喝水\n2. 睡觉")], False),
    ([dict(role="system", content=""), dict(role="user", content="{{ 1 + 1 }} {% raw %}")], True),
    ([dict(role="assistant", content="I begin.")], False),
]


def exam_prompt(line):
    """The exam template up to the completion."""
    context = f"Context: {line['context']}\n" if "context" in line else ""
    options = "".join(f"{chr(ord('A') + i)}) {option}\n" for i, option in enumerate(line["options"]))
    return ("Give the letter of the best answer to the question. Use only the letters listed.\n\n"
            f"{context}Question: {line['question']}\n{options}\n### Answer:")


def split(tokenizer, prompt, completion):
    """Tokenised as one text; the first token that reaches past the prompt starts the completion."""
    both = tokenizer(prompt + completion, return_offsets_mapping=True)
    start = next(i for i, (_, end) in enumerate(both["offset_mapping"]) if end > len(prompt))
    return both["input_ids"][:start], both["input_ids"][start:]


def doubled(stored):
    """The same model in f64 throughout, built anew so that the rotary frequencies are, too."""
    with everything_in(DOUBLE):
        model = AutoModelForCausalLM.from_config(stored.config, dtype=DOUBLE)
    model.load_state_dict(stored.state_dict())
    return model.eval()


def main():
    folder = pathlib.Path(sys.argv[1])
    out = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else pathlib.Path(__file__).parent
    torch.set_num_threads(1)
    transformers.logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def log_probabilities(ids):
        with torch.no_grad():
            return model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)

    texts = []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        record = dict(text=text, ids=ids)
        if len(ids) > 1:
            record["mean_nll"] = -log_probabilities(ids)[:-1].gather(1, torch.tensor(ids[1:])[:, None]).mean().item()
        texts.append(record)

    questions = []
    for number, line in enumerate(QUESTIONS):
        prompt = exam_prompt(line)
        parts = [split(tokenizer, prompt, f" {chr(ord('A') + i)}") for i in range(len(line["options"]))]
        prompt_ids, letter_ids = parts[0][0], [completion[0] for _, completion in parts]
        assert all(ids == prompt_ids for ids, _ in parts) and len(set(letter_ids)) == len(letter_ids)
        probabilities = log_probabilities(prompt_ids)[-1][letter_ids].softmax(-1).tolist()
        questions.append(dict(line=dict(id=f"q{number}", **line), prompt=prompt, prompt_ids=prompt_ids,
                              letter_ids=letter_ids, probabilities=probabilities))

    chats = []
    for messages, add_generation_prompt in CHATS:
        rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=add_generation_prompt, tokenize=False)
        chats.append(dict(messages=messages, add_generation_prompt=add_generation_prompt, rendered=rendered,
                          ids=tokenizer(rendered, add_special_tokens=False)["input_ids"]))

    def lines(records):
        return ",\n".join("  " + json.dumps(record, ensure_ascii=False) for record in records)

    groups = dict(texts=texts, questions=questions, chats=chats)
    body = ",\n".join(f' "{name}": [\n{lines(records)}\n ]' for name, records in groups.items())
    (out / "smollm2.json").write_text(f"{{\n{body}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
