#!/usr/bin/env python3
"""Times Transformers + PEFT, TRL and preceptor on the same texts, interleaved.

    python peers_bench.py PRECEPTOR MODEL --data QUESTIONS.jsonl --out STEM [--modes train shots letter option-text]
        [--rounds 3] [--updates 16] [--warmup 2] [--questions 8] [--threads N]

PRECEPTOR is the program, MODEL a Hugging Face directory, QUESTIONS multiple-choice lines. Every contestant of a mode
is a process of its own; they take turns, round after round. A mode fails if what they compute disagrees: the losses
of all updates, or the answers of all questions. Writes the generated part of STEM.md, and STEM/MODE.json.

The peers are what a user gets: f32, batches of 8 padded to the longest, logits of every position. Theirs is
tokenised before the clock starts, ours while it runs. Needs torch, transformers, peft and trl; `cargo xtask peers
bench` provides them.
"""
import argparse
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time

BATCH = 8
SHOTS = 5
RATE = 1e-4
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LORA = dict(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=LINEARS, task_type="CAUSAL_LM")
# The same sums in another order: this far may the first loss (or a block's answers) differ, relatively, and this
# far a later loss, since updates carry the roundings on.
FIRST, LATER = 1e-4, 1e-2
# glibc's allocator gives large blocks back at once and takes them anew, page by page; this makes it keep them.
TUNED = dict(MALLOC_MMAP_THRESHOLD_="4294967296", MALLOC_TRIM_THRESHOLD_="17179869184", MALLOC_TOP_PAD_="268435456")

CONFIG = """
[model]
path = {model}
[adapter]
init_from = {adapter}
[data]
train = {data}
format = "{format}"
max_seq_length = 4096
[sampler]
strategy = "sequential"
[train]
batch_size = {batch}
learning_rate = {rate}
lr_scheduler_type = "constant"
share_prefixes = "{share}"
micro_batch_tokens = {micro_batch_tokens}
[output]
dir = "not-written"
"""


# What is computed


def exam(question, answer=None):
    """The `exam` template."""
    context = f"Context: {question['context']}\n" if question.get("context") else ""
    options = "\n".join(f"{chr(65 + i)}) {option}" for i, option in enumerate(question["options"]))
    head = "Give the letter of the best answer to the question. Use only the letters listed.\n\n"
    text = f"{head}{context}Question: {question['question']}\n{options}\n\n### Answer:"
    return text if answer is None else f"{text} {answer}"


def letter(question):
    return chr(65 + question["answer"])


def training_texts(questions):
    return [dict(prompt=exam(q), completion=f" {letter(q)}") for q in questions]


def texts_after_shots(questions):
    """Each batch of examples has the same solved questions before it, of its own."""
    texts = []
    for start in range(0, len(questions) - BATCH - SHOTS + 1, BATCH + SHOTS):
        shots = "".join(exam(q, letter(q)) + "\n\n" for q in questions[start:start + SHOTS])
        asked = questions[start + SHOTS:start + SHOTS + BATCH]
        texts += [dict(prompt=shots + exam(q), completion=f" {letter(q)}") for q in asked]
    return texts


def scoring_texts(questions, kind):
    def completions(q):
        return q["options"] if kind == "option-text" else [chr(65 + i) for i in range(len(q["options"]))]

    return [dict(prompt=exam(q), completions=[f" {c}" for c in completions(q)], answer=q["answer"]) for q in questions]


# The peers, each in a process of its own


class Peer:
    """A model and its tokenizer, and what every job does with them."""

    def __init__(self, job):
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        torch.set_num_threads(job["threads"])
        self.torch, self.job = torch, job
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(job["model"])
        self.model = transformers.AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
        self.model.config.use_cache = False
        self.pad = self.tokenizer.pad_token_id or 0

    def adapted(self):
        from peft import PeftModel

        return PeftModel.from_pretrained(self.model, self.job["adapter"], is_trainable=True).train()

    def encode(self, prompt, completion, eos):
        """Token ids, and the index of the completion's first: the one that reaches past the prompt."""
        found = self.tokenizer(prompt + completion, return_offsets_mapping=True, add_special_tokens=True)
        first = next(i for i, (_, end) in enumerate(found["offset_mapping"]) if end > len(prompt))
        return found["input_ids"] + ([self.tokenizer.eos_token_id] if eos else []), first

    def examples(self):
        return [self.encode(t["prompt"], t["completion"], True) for t in read_lines(self.job["texts"])]

    def padded(self, sequences, fill):
        longest = max(map(len, sequences))
        return self.torch.tensor([s + [fill] * (longest - len(s)) for s in sequences])

    def batch(self, encoded):
        ids = [ids for ids, _ in encoded]
        return dict(
            input_ids=self.padded(ids, self.pad),
            attention_mask=self.padded([[1] * len(s) for s in ids], 0),
            labels=self.padded([[-100] * first + s[first:] for s, first in encoded], -100),
        )


def train_by_transformers(job):
    peer = Peer(job)
    torch, model, examples = peer.torch, peer.adapted(), peer.examples()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)

    def update(number):
        loss = model(**peer.batch(examples[number * BATCH:(number + 1) * BATCH])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return timed(job, update) | tokens_of(job, examples)


def train_by_trl(job):
    import datasets
    import torch
    import transformers
    import trl

    peer = Peer(job)
    examples, ends, losses = peer.examples(), [], []

    class Clock(transformers.TrainerCallback):
        def on_train_begin(self, *_, **__):
            ends.append(time.perf_counter())

        def on_step_end(self, *_, **__):
            ends.append(time.perf_counter())

        def on_log(self, *_, logs=None, **__):
            losses.extend([logs["loss"]] if "loss" in logs else [])

    class InOrder(trl.SFTTrainer):
        def _get_train_sampler(self, dataset=None):
            return torch.utils.data.SequentialSampler(dataset or self.train_dataset)

    rows = [dict(input_ids=ids, completion_mask=[int(i >= first) for i in range(len(ids))]) for ids, first in examples]
    settings = trl.SFTConfig(
        output_dir=job["scratch"], use_cpu=True, bf16=False, gradient_checkpointing=False, max_length=None,
        per_device_train_batch_size=BATCH, num_train_epochs=1, learning_rate=RATE, lr_scheduler_type="constant",
        completion_only_loss=True, logging_steps=1, report_to=[], save_strategy="no", disable_tqdm=True)
    InOrder(model=peer.adapted(), processing_class=peer.tokenizer, args=settings, callbacks=[Clock()],
            train_dataset=datasets.Dataset.from_list(rows)).train()
    seconds = [end - start for start, end in zip(ends, ends[1:])]
    return dict(seconds=seconds, losses=losses) | tokens_of(job, examples)


def score_by_transformers(job):
    """The likelihood of each completion, a row each, a question at a time."""
    peer = Peer(job)
    torch = peer.torch
    texts = [dict(t, rows=[peer.encode(t["prompt"], c, False) for c in t["completions"]]) for t in read_lines(job["texts"])]

    def block(number):
        nlls = []
        for text in texts[number * job["questions"]:(number + 1) * job["questions"]]:
            rows = peer.batch(text["rows"])
            labels = rows.pop("labels")[:, 1:]
            with torch.inference_mode():
                logs = peer.model(**rows).logits[:, :-1].log_softmax(-1)
            found = logs.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
            sums = (found * (labels != -100)).sum(-1).double()
            nlls.append(-sums.log_softmax(-1)[text["answer"]].item())
        return statistics.fmean(nlls)

    return timed(job, block)


def score_by_prompts(job):
    """The letters' logits after each prompt, prompts in batches: the least that Transformers can do."""
    peer = Peer(job)
    torch = peer.torch
    texts = []
    for t in read_lines(job["texts"]):
        rows = [peer.encode(t["prompt"], c, False) for c in t["completions"]]
        texts.append(dict(t, ids=rows[0][0][:rows[0][1]], letters=[ids[first] for ids, first in rows]))

    def block(number):
        nlls = []
        asked = texts[number * job["questions"]:(number + 1) * job["questions"]]
        for start in range(0, len(asked), BATCH):
            some = asked[start:start + BATCH]
            rows = peer.batch([(t["ids"], len(t["ids"])) for t in some])
            rows.pop("labels")
            with torch.inference_mode():
                logits = peer.model(**rows).logits
            for row, t in enumerate(some):
                logs = logits[row, len(t["ids"]) - 1, t["letters"]].log_softmax(-1)
                nlls.append(-logs[t["answer"]].item())
        return statistics.fmean(nlls)

    return timed(job, block)


def make_adapter(job):
    """The adapter that all start from: A random, B zero."""
    from peft import LoraConfig, get_peft_model

    peer = Peer(job)
    peer.torch.manual_seed(0)
    get_peft_model(peer.model, LoraConfig(**LORA)).save_pretrained(job["adapter"])
    return {}


WORKERS = {f.__name__: f for f in
           (make_adapter, train_by_transformers, train_by_trl, score_by_transformers, score_by_prompts)}


def timed(job, unit):
    seconds, losses = [], []
    for number in range(job["warmup"] + job["updates"]):
        start = time.perf_counter()
        losses.append(unit(number))
        seconds.append(time.perf_counter() - start)
    return dict(seconds=seconds, losses=losses)


def tokens_of(job, examples):
    """Real and trained tokens of each update."""
    batches = [examples[i * BATCH:(i + 1) * BATCH] for i in range(job["warmup"] + job["updates"])]
    return dict(real=[sum(len(ids) for ids, _ in b) for b in batches],
                trained=[sum(len(ids) - first for ids, first in b) for b in batches])


def work(name, path):
    job = json.loads(pathlib.Path(path).read_text())
    found = WORKERS[name](job)
    found["process_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pathlib.Path(job["result"]).write_text(json.dumps(found))


# The contest


class Contest:
    """One mode: texts, and who computes them."""

    def __init__(self, options, mode, questions, scratch, adapter):
        self.options, self.mode, self.scratch = options, mode, scratch / mode
        self.scratch.mkdir()
        units = options.updates + options.warmup
        self.adapter = adapter
        self.texts, self.data = self.scratch / "texts.jsonl", self.scratch / "data.jsonl"
        self.format = "prompt-completion" if mode == "shots" else "mcqa"
        if mode in ("train", "shots"):
            per_unit = BATCH if mode == "train" else BATCH + SHOTS
            used = self.take(questions, units * per_unit)
            texts = training_texts(used) if mode == "train" else texts_after_shots(used)
        else:
            used = self.take(questions, units * options.questions)
            texts = scoring_texts(used, mode)
        write_lines(self.texts, texts)
        write_lines(self.data, texts if mode == "shots" else used)
        peer, ours = self.peer, self.ours
        self.contestants = {
            "train": {
                "Transformers + PEFT": lambda: peer("train_by_transformers"),
                "Transformers + PEFT, tuned malloc": lambda: peer("train_by_transformers", TUNED),
                "TRL": lambda: peer("train_by_trl"),
                "preceptor, nothing shared": lambda: ours("off"),
                "preceptor": lambda: ours("auto"),
            },
            "shots": {
                "Transformers + PEFT": lambda: peer("train_by_transformers"),
                "preceptor": lambda: ours("auto"),
            },
            "letter": {
                "Transformers, a row an option": lambda: peer("score_by_transformers"),
                "Transformers, a row a question": lambda: peer("score_by_prompts"),
                "preceptor": lambda: ours("auto"),
            },
            "option-text": {
                "Transformers, a row an option": lambda: peer("score_by_transformers"),
                "preceptor": lambda: ours("auto"),
            },
        }[mode]

    def take(self, questions, count):
        if len(questions) < count:
            sys.exit(f"error: {self.options.data}: found {len(questions)} questions, needed {count} for `{self.mode}`; "
                     "ask for fewer by --updates, or give another file by --data")
        return questions[:count]

    def peer(self, worker, environment={}):
        options = self.options
        job = dict(model=str(options.model), adapter=str(self.adapter), texts=str(self.texts),
                   scratch=str(self.scratch / "trl"), result=str(self.scratch / "result.json"),
                   threads=options.threads, updates=options.updates, warmup=options.warmup,
                   questions=options.questions)
        return run_worker(worker, job, self.scratch, environment)

    def ours(self, share):
        options, config = self.options, self.scratch / "run.toml"
        config.write_text(CONFIG.format(
            model=json.dumps(str(options.model)), data=json.dumps(str(self.data)), format=self.format, share=share,
            # by option text and by letter the base answers, as the peers' does
            adapter=json.dumps("" if self.scoring() else str(self.adapter)), batch=BATCH, rate=RATE,
            micro_batch_tokens=options.micro_batch_tokens))
        command = [options.preceptor, "bench", config, "--json", "--threads", options.threads,
                   "--updates", options.updates, "--warmup", options.warmup]
        if self.scoring():
            command += ["--scoring", self.mode, "--questions", options.questions]
        saved = json.loads(run(command))
        found = dict(seconds=[u["seconds"] for u in saved["units"]], losses=[u["loss"] for u in saved["units"]],
                     process_bytes=saved["process_bytes"], activation_bytes=saved["memory_bytes"],
                     peak_flops=saved["peak_flops"], peak_bandwidth=saved["peak_bandwidth"], ops=saved["ops"])
        if not self.scoring():
            for key in ("real", "trained", "computed"):
                found[key] = [u["tokens"][key] for u in saved["units"]]
        return found

    def scoring(self):
        return self.mode in ("letter", "option-text")

    def run(self):
        """Every contestant once a round; checks that all compute the same."""
        rounds = []
        for number in range(self.options.rounds):
            found = {}
            for name, contestant in self.contestants.items():
                found[name] = contestant()
                total = sum(found[name]["seconds"][self.options.warmup:])
                print(f"{self.mode}, round {number + 1}: {name}: {total:.2f} s", file=sys.stderr, flush=True)
                self.agree(found, name)
            rounds.append(found)
        return rounds

    def agree(self, found, name):
        reference = next(iter(found.values()))
        one = found[name]
        for key in ("real", "trained"):
            if one.get(key) != reference.get(key):
                sys.exit(f"error: {self.mode}: {name} has {one[key]} {key} tokens, needed {reference[key]}")
        pairs = list(zip(one["losses"], reference["losses"], strict=True))
        # a loss near 0 has the roundings of the probabilities near 1 that it comes from
        apart = [abs(a - b) / max(abs(b), 0.1) for a, b in pairs]
        one["apart"] = dict(first=apart[0], most=max(apart))
        limit = FIRST if self.scoring() else LATER
        if apart[0] > FIRST or max(apart) > limit:
            sys.exit(f"error: {self.mode}: {name} computes something else: its losses differ by {apart}, relatively")


def run_worker(worker, job, folder, environment={}):
    path, result = folder / "job.json", pathlib.Path(job["result"])
    path.write_text(json.dumps(job))
    run([sys.executable, __file__, "--worker", worker, path], environment)
    return json.loads(result.read_text())


def run(command, environment={}):
    plain = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "LD_PRELOAD"}
    plain |= dict(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", RUST_LOG="warn", **environment)
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, env=plain)
    if done.returncode != 0:
        sys.exit(f"error: {pathlib.Path(command[0]).name} {command[1]}: exit code {done.returncode}")
    return done.stdout


def read_lines(path):
    return [json.loads(line) for line in pathlib.Path(path).read_text().splitlines() if line.strip()]


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


# The page

TITLES = {
    "train": "Training",
    "shots": "Training, five shots shared by the examples of a batch",
    "letter": "Answering by letter",
    "option-text": "Answering by option text",
}
BEGIN, END = "<!-- generated by `cargo xtask peers bench` -->", "<!-- end of the generated part -->"


def table(mode, options, rounds):
    """Totals by contestant; a ratio is the first contestant's time by this one's, of each round."""
    def totals(name):
        return [sum(found[name]["seconds"][options["warmup"]:]) for found in rounds]

    names = list(rounds[0])
    reference = totals(names[0])
    training = mode in ("train", "shots")
    lines = [f"### {TITLES[mode]}", "",
             f"| | total, s | {'real tokens/s' if training else 'questions/s'} | times faster | peak memory, MiB | of the peer's |",
             "| --- | --- | --- | --- | --- | --- |"]
    memory = {name: statistics.median(found[name]["process_bytes"] for found in rounds) for name in names}
    for name in names:
        own = totals(name)
        work = sum(rounds[0][name]["real"][options["warmup"]:]) if training else options["updates"] * options["questions"]
        ratios = [theirs / ours for theirs, ours in zip(reference, own)]
        lines.append(f"| {name} | {statistics.median(own):.2f} | {work / statistics.median(own):.{1 if training else 2}f} "
                     f"| {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}] "
                     f"| {memory[name] / 2**20:.0f} | {memory[name] / memory[names[0]]:.2f} |")
    apart = max(found[name]["apart"]["most"] for found in rounds for name in names)
    lines += ["", f"All compute the same: their {'losses' if training else 'answers'} are at most {apart:.1e} apart, relatively.", ""]
    return lines


def op_table(rounds, warmup):
    """Each op of the training of all rounds together against its floor: a single round has the pace of its minute."""
    found = [one["preceptor"] for one in rounds]
    ops = [dict(name=name, **{key: sum(op[key] for one in found for op in one["ops"] if op["name"] == name)
                              for key in ("calls", "seconds", "floor")})
           for name in dict.fromkeys(op["name"] for one in found for op in one["ops"])]
    seconds, floors = [sum(one["seconds"][warmup:]) for one in found], [sum(op["floor"] for op in one["ops"]) for one in found]
    ratios = [a / b for a, b in zip(seconds, floors)]
    peaks = [peak / 1e9 for one in found for peak in one["peak_flops"]]
    bandwidth = statistics.median(one["peak_bandwidth"] for one in found) / 1e9
    lines = ["### Ops of a training step", "",
             f"`preceptor`, all rounds together; {statistics.median(peaks):.0f} GFLOP/s between updates [{min(peaks):.0f}, {max(peaks):.0f}], "
             f"and {bandwidth:.1f} GB/s. A round's floors are told against its own peaks.", "",
             "| op | calls | time, ms | floor, ms | time / floor |", "| --- | --- | --- | --- | --- |"]
    for op in sorted(ops, key=lambda op: -op["seconds"]):
        lines.append(f"| {op['name']} | {op['calls']} | {1e3 * op['seconds']:.1f} | {1e3 * op['floor']:.1f} "
                     f"| {op['seconds'] / op['floor']:.2f} |")
    total, floor = sum(seconds), sum(floors)
    outside = total - sum(op["seconds"] for op in ops)
    return lines + [f"| outside of ops | | {1e3 * outside:.1f} | | |",
                    f"| **total** | | **{1e3 * total:.1f}** | **{1e3 * floor:.1f}** | "
                    f"**{total / floor:.2f} [{min(ratios):.2f}, {max(ratios):.2f}]** |", ""]


def machine(options):
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "CPU")
    packages = ("torch", "transformers", "peft", "trl")
    code = f"from importlib.metadata import version; print(*map(version, {packages}))"
    versions = dict(zip(packages, run([sys.executable, "-c", code]).split()))
    ours = run([options.preceptor, "--version"]).strip()
    return dict(cpu=cpu, threads=options.threads, system=platform.system(), **versions,
                preceptor=ours.split()[-1], model=options.model.name, data=options.data.name)


def page(facts, modes):
    """`modes`: by name, options and rounds."""
    lines = [f"{facts['cpu']}, {facts['threads']} threads; preceptor {facts['preceptor']}, torch {facts['torch']}, "
             f"Transformers {facts['transformers']}, PEFT {facts['peft']}, TRL {facts['trl']}; {facts['model']}, questions of `{facts['data']}` in the "
             "`exam` template.", ""]
    for mode, found in modes.items():
        options = found["options"]
        unit = f"updates of {BATCH} examples" if mode in ("train", "shots") else f"blocks of {options['questions']} questions"
        part = table(mode, options, found["rounds"])
        note = f"{options['updates']} {unit} after {options['warmup']}, rounds: {len(found['rounds'])}; medians, and the range of the ratios."
        lines += part[:2] + [note, ""] + part[2:]
    if "train" in modes:
        lines += op_table(modes["train"]["rounds"], modes["train"]["options"]["warmup"])
    return "\n".join(lines).rstrip() + "\n"


def write_page(path, generated):
    text = path.read_text() if path.exists() else f"# Training on a CPU, beside its peers\n\n{BEGIN}\n{END}\n"
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        sys.exit(f"error: {path}: needed once `{BEGIN}` and once `{END}`")
    head, rest = text.split(BEGIN)
    path.write_text(f"{head}{BEGIN}\n\n{generated}\n{END}{rest.split(END)[1]}")


def main():
    if sys.argv[1:2] == ["--worker"]:
        return work(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preceptor", type=pathlib.Path)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--modes", nargs="+", choices=list(TITLES), default=list(TITLES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=16)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--questions", type=int, default=8, help="of a block, where questions are answered")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--micro-batch-tokens", type=int, default=2048, help="preceptor's default")
    options = parser.parse_args()
    options.preceptor, options.model = options.preceptor.resolve(), options.model.resolve()
    questions = read_lines(options.data)
    options.out.mkdir(parents=True, exist_ok=True)
    facts = machine(options)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        adapter = scratch / "adapter"
        run_worker("make_adapter", dict(model=str(options.model), adapter=str(adapter), threads=options.threads,
                                        result=str(scratch / "result.json")), scratch)
        for mode in options.modes:
            rounds = Contest(options, mode, questions, scratch, adapter).run()
            kept = {k: getattr(options, k) for k in ("updates", "warmup", "questions", "threads", "micro_batch_tokens")}
            raw = json.dumps(dict(machine=facts, options=kept, rounds=rounds), indent=1)
            (options.out / f"{mode}.json").write_text(raw + "\n")
    modes = {mode: json.loads(path.read_text()) for mode in TITLES if (path := options.out / f"{mode}.json").exists()}
    write_page(options.out.with_suffix(".md"), page(facts, modes))
    print(options.out.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
