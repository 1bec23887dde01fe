#!/usr/bin/env python3
"""Writes small valid inputs into fuzz/corpus, one folder a target: a fuzzer starts best from what is accepted."""
import json
import pathlib
import struct

HERE = pathlib.Path(__file__).parent
MODEL = json.loads((HERE / "model.json").read_text())
SIZES = {"F32": 4, "F16": 2, "BF16": 2}


def safetensors(tensors, dtype="F32"):
    """A file of zeros with these shapes by name."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors.items():
        start, end = end, end + SIZES[dtype] * shape[0] * shape[1]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(end)


def adapter(**settings):
    """One on q_proj and down_proj, as the target adapter.rs takes it."""
    rank = 2
    heads = MODEL["num_attention_heads"] * MODEL["head_dim"]
    shapes = {"self_attn.q_proj": (heads, MODEL["hidden_size"]),
              "mlp.down_proj": (MODEL["hidden_size"], MODEL["intermediate_size"])}
    tensors = {}
    for module, (rows, columns) in shapes.items():
        stem = f"base_model.model.model.layers.0.{module}"
        tensors[f"{stem}.lora_A.weight"] = (rank, columns)
        tensors[f"{stem}.lora_B.weight"] = (rows, rank)
    config = dict(peft_type="LORA", task_type="CAUSAL_LM", r=rank, lora_alpha=4, lora_dropout=0.0, bias="none",
                  target_modules=["q_proj", "down_proj"])
    return json.dumps(dict(config, **settings)).encode() + b"\0" + safetensors(tensors)


def line(**fields):
    return json.dumps(fields).encode()


def model_config(**settings):
    return json.dumps(dict(MODEL, **settings)).encode()


def gguf(entries, tensors, version=3):
    """Metadata by key and F32 tensors of zeros by name, with their shapes innermost first."""
    def text(value):
        return struct.pack("<Q", len(value.encode())) + value.encode()

    def value(x):
        if isinstance(x, bool):
            return 7, struct.pack("<?", x)
        if isinstance(x, int):
            return 4, struct.pack("<I", x)
        if isinstance(x, float):
            return 6, struct.pack("<f", x)
        if isinstance(x, str):
            return 8, text(x)
        kind = value(x[0])[0]
        return 9, struct.pack("<IQ", kind, len(x)) + b"".join(value(item)[1] for item in x)

    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries))
    for key, x in entries.items():
        kind, content = value(x)
        out += text(key) + struct.pack("<I", kind) + content
    offset = 0
    for name, shape in tensors.items():
        out += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset)
        size = 4
        for n in shape:
            size *= n
        offset += -(-size // 32) * 32
    return out + bytes(-len(out) % 32) + bytes(offset)


LLAMA_GGUF = {"general.architecture": "llama", "llama.block_count": 1, "llama.context_length": 8,
              "llama.embedding_length": 4, "llama.feed_forward_length": 4, "llama.attention.head_count": 2,
              "llama.attention.head_count_kv": 1, "llama.attention.layer_norm_rms_epsilon": 1e-5,
              "llama.rope.freq_base": 1e4}
GGUF_TENSORS = {"token_embd.weight": (4, 3), "output_norm.weight": (4,), "rope_freqs.weight": (1,)}
BPE_GGUF = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2", "tokenizer.ggml.tokens": ["a", "b", "ab"],
            "tokenizer.ggml.merges": ["a b"], "tokenizer.ggml.eos_token_id": 0}
PIECES_GGUF = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", "a", "b", "ab"],
               "tokenizer.ggml.scores": [0.0, 0.0, 0.0, -2.0, -3.0, -1.0], "tokenizer.ggml.add_bos_token": True,
               "tokenizer.ggml.token_type": [2, 3, 3, 1, 1, 4]}
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=8)
SEEDS = {
    "safetensors": [safetensors({}), *(safetensors({"a": (2, 3), "b.weight": (1, 1)}, d) for d in SIZES)],
    "gguf": [gguf({}, {}), gguf(LLAMA_GGUF, GGUF_TENSORS), gguf({**LLAMA_GGUF, **BPE_GGUF}, GGUF_TENSORS, 2),
             gguf({**LLAMA_GGUF, **PIECES_GGUF, "general.alignment": 32}, GGUF_TENSORS)],
    "data_file": [b"text,id\na,1\n", b'question,options,answer\n"1 + 1?","[""1"", ""2""]",1\n',
                  *(path.read_bytes() for path in sorted((HERE.parent / "tests/golden/parquet").glob("*.parquet")))],
    "adapter": [adapter(), adapter(use_rslora=True), adapter(target_modules=".*_proj", alpha_pattern={"q_proj": 8}),
                adapter(rank_pattern={"down_proj": 2}, r=2)],
    "dataset_line": [
        line(id=7, question="2 + 2?", options=["3", "4"], answer=1, subject="sums", context="Count.",
             difficulty=0.25, weight=2.0, smoothing=0.1, teacher=[0.2, 0.8]),
        line(prompt="A", completion=" b"),
        line(messages=[dict(role="system", content="s"), dict(role="user", content="u"),
                       dict(role="assistant", content="a")]),
        line(instruction="Add.", input="2, 2", output="4"),
        line(text="T", source="book"),
        line(prompt="p", chosen="c", rejected="r"),
        line(input_ids=[1, 2, 3], labels=[-100, 2, 3]),
    ],
    "config": [
        b"",
        b"train.epochs=2",
        b'adapter.target_modules=["q_proj"]',
        b'[model]\npath = "m"\n[data]\ntrain = "d.jsonl"\nformat = "tokens"\n[output]\ndir = "out"\n',
        b'[adapter]\nr = 4\nlora_alpha = 8\ntarget_modules = ["q_proj"]\nrank_pattern = { "layers.0" = 2 }\n',
        b'[sampler]\nstrategy = "interleaved"\nparts = 2\ncategory_order = ["a", "b"]\n',
        b'[train]\nlearning_rate = 1e-3\nlr_scheduler_type = "cosine"\nshare_prefixes = "off"\n',
    ],
    "model_config": [
        model_config(),
        model_config(rope_scaling=LLAMA3),
        model_config(rope_scaling=dict(type="linear", factor=2.0)),
        model_config(rope_parameters=dict(rope_type="default", rope_theta=5e5)),
        model_config(model_type="mistral", sliding_window=4),
        model_config(model_type="qwen2", use_sliding_window=False, max_window_layers=1),
        model_config(model_type="qwen3", attention_bias=False),
        model_config(model_type="gemma3_text", hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=4,
                     rope_local_base_freq=1e4, sliding_window=4, sliding_window_pattern=2),
    ],
}

for target, inputs in SEEDS.items():
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(inputs):
        (folder / f"seed-{number}").write_bytes(content)
