#!/usr/bin/env python3
"""Writes what the demonstration's base model learns from: words.txt, for its tokenizer, and lessons.jsonl.

    python3 lessons.py OUT [ITEMS]

A lesson is a prompt and its completion. Four kinds take turns:

- fact: a sentence of facts.txt, cut somewhere; the rest is the completion;
- match: a question that names its answer;
- pair: a question about one of two phrases that were paired by lot; the other is the answer;
- read: a question whose answer stands in a context, as reading.py writes it.

Phrases are a few neighbouring words of a fact, and pairs are drawn across facts. So the model meets every fact as a
sentence, and how a question is asked and answered, but no question about a fact: nothing of questions.jsonl is used.
"""

import json
import pathlib
import random
import re
import sys

from reading import capital, item as reading_item

HERE = pathlib.Path(__file__).resolve().parent
FACTS = (HERE.parent / "facts.txt").read_text().splitlines()
SMALL = set("""a an and are at be by called can for from has have in into is it its may no not of on one only or that the
    their them they this to two which with""".split())
MATCH = ["Which one is {p}?", "Where is {p}?", "Find {p}.", "What says {p}?", "Choose {p}.", "The word is {p}.",
         "It is {p}; which one?", "{P} is which of these?", "Which line names {p}?", "Look for {p}."]
PAIR = ["What goes with {p}?", "Which of these belongs to {p}?", "{P} is tied to what?", "What does {p} mean?",
        "Tell what {p} brings.", "{P} leads to which of these?", "The partner of {p} is what?", "By {p} we know what?",
        "Which is found where {p} is?", "In a test, {p} points to what?"]
PAIRS = 600
# The tokenizer sees each fact this often, so that the facts' words become tokens of their own.
FACTS_IN_WORDS = 20
LESSONS_IN_WORDS = 1000


def phrase(rng):
    """One to three neighbouring words of a fact, with no small word at either end."""
    while True:
        words = re.findall(r"[A-Za-z0-9-]+", rng.choice(FACTS))
        start, length = rng.randrange(len(words)), rng.choice([1, 1, 2, 2, 3])
        found = words[start:start + length]
        if len(found) == length and not SMALL & {found[0].lower(), found[-1].lower()}:
            return " ".join(found)


def pairs(rng):
    found = {}
    while len(found) < PAIRS:
        answer, name = phrase(rng), phrase(rng)
        if answer != name:
            found[answer] = name
    return list(found.items())


def prompt(question, context=None):
    return (f"Context: {context}\n" if context else "") + f"Question: {question}\n\n### Answer:"


def ask(rng, questions, words):
    return prompt(rng.choice(questions).format(p=words, P=capital(words)))


def lesson(rng, number, paired):
    kind = number % 4
    if kind == 0:
        words = rng.choice(FACTS).split()
        cut = rng.randrange(1, len(words) - 1)
        return " ".join(words[:cut]), " ".join(words[cut:])
    if kind == 1:
        words = phrase(rng)
        return ask(rng, MATCH, words), words
    if kind == 2:
        answer, name = rng.choice(paired)
        return ask(rng, PAIR, name), answer
    context, question, options = reading_item(rng, 0)
    return prompt(question, context), options[0]


def main():
    out, items = pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    rng = random.Random(1)
    paired = pairs(rng)
    out.mkdir(parents=True, exist_ok=True)
    texts = FACTS * FACTS_IN_WORDS
    with (out / "lessons.jsonl").open("w") as lessons:
        for number in range(items):
            given, completion = lesson(rng, number, paired)
            lessons.write(json.dumps({"prompt": given, "completion": " " + completion}) + "\n")
            texts += [f"{given} {completion}"] if number < LESSONS_IN_WORDS else []
    (out / "words.txt").write_text("\n".join(texts) + "\n")


if __name__ == "__main__":
    main()
