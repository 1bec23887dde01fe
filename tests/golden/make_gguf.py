#!/usr/bin/env python3
"""Makes gguf/: GGUF files and what other programs read in them. README.md describes the files.

    python make_gguf.py [OUT]

The files are written by the `gguf` package from the golden cases, as llama.cpp's converter writes them; its
blocks are dequantised by `gguf`, models computed by Transformers, texts cut by SentencePiece.
Needs torch, transformers, peft, gguf and sentencepiece; `cargo xtask golden` provides them.
"""
import json
import pathlib
import sys
import tempfile

import gguf
import numpy
import sentencepiece
import torch
from gguf import GGMLQuantizationType as Type
from safetensors.torch import load_file, save_file

import make
from cases import CASES, Case

HERE = pathlib.Path(__file__).parent
ARCHITECTURES = {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2, "qwen3": gguf.MODEL_ARCH.QWEN3,
                 "gemma3_text": gguf.MODEL_ARCH.GEMMA3}
SIMPLE = [Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0]
K_TYPES = [Type.Q4_K, Type.Q5_K, Type.Q6_K]
FAMILIES = ["llama_bias", "llama3_rope_long", "llama_linear_rope", "qwen2", "qwen3", "gemma3_text"]


def blocks(kind, rows, elements, generator):
    """Random rows of this type. `gguf` quantises the simple types; blocks of the others are random bytes with
    small finite scales, so every bit of every field is met."""
    if kind in SIMPLE:
        return gguf.quants.quantize(generator.standard_normal((rows, elements), dtype=numpy.float32), kind)
    size, count = gguf.GGML_QUANT_SIZES[kind][1], rows * elements // 256
    raw = generator.integers(0, 256, (count, size), dtype=numpy.uint8)
    halves = generator.uniform(2e-4, 1e-3, (count, 2)).astype(numpy.float16).view(numpy.uint8).reshape(count, 4)
    if kind == Type.Q6_K:
        raw[:, -2:] = halves[:, :2]
    else:
        raw[:, :4] = halves
    return raw.reshape(rows, -1)


def write_blocks(out):
    """`TYPE.blocks` and `TYPE.values`: a few blocks of each type, dequantised by `gguf`."""
    generator, tensors = numpy.random.default_rng(1), {}
    for kind in SIMPLE + K_TYPES:
        raw = blocks(kind, 3, gguf.GGML_QUANT_SIZES[kind][0], generator)
        tensors[f"{kind.name}.blocks"] = torch.from_numpy(raw.flatten())
        tensors[f"{kind.name}.values"] = torch.from_numpy(gguf.dequantize(raw, kind).flatten())
    save_file(tensors, out / "blocks.safetensors")


def pairs(tensor, heads):
    """The two rows of a rotary pair side by side, as the converter stores Llama's queries and keys."""
    return tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)


def rope_factors(config, scaling):
    """By what Llama 3's scaling divides each frequency."""
    low, high, old = scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["original_max_position_embeddings"]
    factors = []
    for i in range(0, config["head_dim"], 2):
        wave = 2 * numpy.pi * config["rope_theta"] ** (i / config["head_dim"])
        smooth = (old / wave - low) / (high - low)
        factors.append(1 if wave < old / high else scaling["factor"] if wave > old / low
                       else 1 / ((1 - smooth) / scaling["factor"] + smooth))
    return numpy.array(factors, dtype=numpy.float32)


def write_gguf(path, config, tensors, types=None):
    """The model as a GGUF file; `types` cycles over its matrices, None keeps their own. Returns the values in it."""
    kind = config["model_type"]
    architecture = ARCHITECTURES[kind]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    heads, layers = config["num_attention_heads"], config["num_hidden_layers"]
    head_dim = config.get("head_dim", config["hidden_size"] // heads)
    rope = config.get("rope_parameters", {})
    writer.add_block_count(layers)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(rope.get("rope_theta", config.get("rope_theta")))
    scaling = config.get("rope_scaling") or {}
    if scaling.get("type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])
    if scaling.get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", rope_factors(config, scaling))
    if kind == "gemma3_text":
        writer.add_sliding_window(config["sliding_window"])
        writer.add_uint32("gemma3.attention.sliding_window_pattern", config["sliding_window_pattern"])
        writer.add_float32("gemma3.attention.scale", config["query_pre_attn_scalar"] ** -0.5)
        writer.add_float32("gemma3.rope.freq_base_swa", config["rope_local_base_freq"])
    names, stored, matrices = gguf.get_tensor_name_map(architecture, layers), {}, 0
    for name, tensor in sorted(tensors.items()):
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        values = tensor.float().numpy()
        turns = kind == "llama" and ("q_proj" in name or "k_proj" in name)
        turning = heads if "q_proj" in name else config["num_key_value_heads"]
        if turns:
            values = pairs(values, turning)
        if name.endswith("norm.weight") and kind == "gemma3_text":
            values = values + 1
        if values.ndim == 1 or not types and tensor.dtype == torch.float32:
            data, of_type = values, Type.F32
        elif not types:
            of_type = {torch.float16: Type.F16, torch.bfloat16: Type.BF16}[tensor.dtype]
            data = gguf.quants.quantize(values, of_type)
        else:
            fitting = [t for t in types if values.shape[1] % gguf.GGML_QUANT_SIZES[t][0] == 0]
            of_type = fitting[matrices % len(fitting)]
            matrices += 1
            generator = numpy.random.default_rng(matrices)
            data = gguf.quants.quantize(values, of_type) if of_type in SIMPLE else blocks(of_type, *values.shape, generator)
        writer.add_tensor(theirs, data, raw_dtype=of_type)
        back = gguf.dequantize(data, of_type)
        if turns:  # undone: halves a head apart
            rows = back.shape[0] // turning
            back = back.reshape(turning, rows // 2, 2, *back.shape[1:]).swapaxes(1, 2).reshape(back.shape)
        stored[name] = torch.from_numpy(numpy.ascontiguousarray(back))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return stored


def stored_tensors(folder):
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors.update(load_file(file))
    return tensors


def quantised(out):
    """One small model of each family in quantised types, with the logits that Transformers computes of its values."""
    small = dict(vocab_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=32,
                 tie_word_embeddings=True, max_position_embeddings=64)
    shapes = {"llama": dict(hidden_size=64, intermediate_size=96), "qwen2": dict(hidden_size=64, intermediate_size=96),
              "qwen3": dict(hidden_size=256, intermediate_size=32),
              "gemma3_text": dict(hidden_size=64, intermediate_size=96, sliding_window=5, num_hidden_layers=2)}
    cases = {"llama": "llama_bias", "qwen2": "qwen2", "qwen3": "qwen3", "gemma3_text": "gemma3_text"}
    changes = {"llama": dict(attention_bias=False, mlp_bias=False)}
    logits, noise = {}, {}
    for seed, (kind, case) in enumerate(cases.items()):
        config = {**CASES[case].config, **small, **shapes[kind], **changes.get(kind, {})}
        generator = torch.Generator().manual_seed(seed)
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "model").mkdir()
            make.write_model(Case("", config, lora={}, lengths=[]), folder / "made", generator)
            values = write_gguf(out / f"{kind}_quantised.gguf", config, stored_tensors(folder / "made"),
                                K_TYPES + SIMPLE if kind == "qwen3" else SIMPLE)
            if kind == "gemma3_text":
                values = {n: t - 1 if n.endswith("norm.weight") else t for n, t in values.items()}
            (folder / "model/config.json").write_text(json.dumps(config))
            save_file(values, folder / "model/model.safetensors", metadata={"format": "pt"})
            ids = torch.arange(3, 27) * 7 % config["vocab_size"]
            found = {}
            for dtype in [make.DOUBLE, make.SINGLE]:
                model = make.load(folder, None, dtype, "eager")
                with torch.no_grad(), make.everything_in(dtype):
                    found[dtype] = model(input_ids=ids[None]).logits[0]
        logits[f"{kind}.logits"] = found[make.DOUBLE].float().contiguous()
        logits[f"{kind}.ids"] = ids
        noise[kind] = make.gap({"x": found[make.SINGLE]}, {"x": found[make.DOUBLE]})
    save_file(logits, out / "quantised.safetensors")
    (out / "quantised.json").write_text(json.dumps(noise, indent=1) + "\n")


TEXTS = ["The heart pumps blood.", " a leading blank", "two  blanks and   three", "trailing ", "", "Ünïcödé, ß and 日本語 🙂",
         "tabs\tand\nlines\n\n", "1234567890", "the the theatre", "a"]
CORPUS = """The heart pumps blood through the body, and the blood carries what the body needs.
The theatre of the city is near the river; the river is near the sea. 1234 people live there.
A tumour is a growth of cells that the body does not need. Two blanks stand  here and three   there.
""" * 4


def pieces(out):
    """A SentencePiece model's vocabulary in a GGUF file, and how SentencePiece cuts texts with it."""
    with tempfile.TemporaryDirectory() as folder:
        prefix = f"{folder}/spm"
        (pathlib.Path(folder) / "text").write_text(CORPUS)
        sentencepiece.SentencePieceTrainer.train(
            input=f"{folder}/text", model_prefix=prefix, model_type="bpe", vocab_size=400, byte_fallback=True,
            character_coverage=1.0, remove_extra_whitespaces=False, normalization_rule_name="identity",
            split_digits=True, allow_whitespace_only_pieces=True, minloglevel=2, num_threads=1)
        model = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    count = model.vocab_size()
    kinds = [2 if model.is_unknown(i) else 3 if model.is_control(i) else 6 if model.is_byte(i) else 1 for i in range(count)]
    writer = gguf.GGUFWriter(out / "pieces.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([model.id_to_piece(i) for i in range(count)])
    writer.add_token_scores([model.get_score(i) for i in range(count)])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(model.bos_id())
    writer.add_eos_token_id(model.eos_id())
    writer.add_unk_token_id(model.unk_id())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = [dict(text=text, ids=model.encode(text)) for text in TEXTS]
    (out / "pieces.json").write_text(json.dumps(found, indent=1) + "\n")


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else HERE) / "gguf"
    out.mkdir(exist_ok=True)
    write_blocks(out)
    for name in FAMILIES:
        write_gguf(out / f"{name}.gguf", CASES[name].config, stored_tensors(HERE / name / "model"))
    quantised(out)
    pieces(out)
    for file in out.iterdir():
        file.chmod(0o644)


if __name__ == "__main__":
    main()
