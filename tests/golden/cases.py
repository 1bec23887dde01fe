"""The table of golden cases: for each, a model's config.json, how its weights are stored, and its training.

The configurations are written by hand, as published models write them, so that reading them is part of
what is tested. Sizes are odd on purpose: a kernel that only knows multiples of 8 fails here.
"""

ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SPECIAL = dict(bos_token_id=1, eos_token_id=2, pad_token_id=0)
LLAMA = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu", **SPECIAL)


class Case:
    """One tiny model with its adapter, its batches and its optimizer settings."""

    def __init__(self, about, config, *, dtype="F32", shards=1, lora, lengths, scheduler="cosine",
                 weights=False, smoothing=False, stride=13):
        self.about = about            # what this case is there to catch
        self.config = config          # config.json
        self.dtype = dtype            # element type of the stored weights
        self.shards = shards          # weight files; above 1 with an index
        self.lora = lora              # keyword arguments of peft.LoraConfig
        self.lengths = lengths        # tokens of each example, one list a batch
        self.scheduler = scheduler
        self.weights = weights        # examples weigh differently
        self.smoothing = smoothing    # examples have their own label smoothing
        self.stride = stride          # of every weight's gradient, each stride-th value is stored


CASES = {
    "llama_bias": Case(
        "biases in attention and MLP, as many kv heads as heads, head_dim 8, old configuration keys; "
        "label smoothing and weights per example",
        dict(LLAMA, vocab_size=101, hidden_size=33, intermediate_size=53, num_hidden_layers=2,
             num_attention_heads=3, num_key_value_heads=3, head_dim=8, max_position_embeddings=64,
             rms_norm_eps=1e-5, attention_bias=True, mlp_bias=True, tie_word_embeddings=False,
             rope_theta=10000.0, rope_scaling=None, torch_dtype="float32"),
        lora=dict(r=3, lora_alpha=5, target_modules=ALL_LINEAR),
        lengths=[[31, 2, 17], [9, 23, 30], [13, 26]], weights=True, smoothing=True, stride=1),
    "llama3_rope_long": Case(
        "llama3 rotary scaling past its original context, tied head, GQA of 3 over one kv head, head_dim 64, "
        "bf16 weights, sequences above 100 tokens",
        dict(LLAMA, vocab_size=131, hidden_size=42, intermediate_size=61, num_hidden_layers=2,
             num_attention_heads=3, num_key_value_heads=1, head_dim=64, max_position_embeddings=256,
             rms_norm_eps=1e-5, attention_bias=False, mlp_bias=False, tie_word_embeddings=True,
             rope_theta=500000.0, torch_dtype="bfloat16",
             rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                               original_max_position_embeddings=32)),
        dtype="BF16", lora=dict(r=2, lora_alpha=4, target_modules=ALL_LINEAR),
        lengths=[[127, 11, 64], [50, 129, 3], [101, 18]], scheduler="linear"),
    "llama_linear_rope": Case(
        "linear rotary scaling by the oldest key (`type`), GQA of 3, head_dim 24, f16 weights; "
        "ranks and alphas that differ by module",
        dict(LLAMA, vocab_size=97, hidden_size=42, intermediate_size=47, num_hidden_layers=2,
             num_attention_heads=6, num_key_value_heads=2, head_dim=24, max_position_embeddings=128,
             rms_norm_eps=1e-6, tie_word_embeddings=False, rope_theta=10000.0, torch_dtype="float16",
             rope_scaling=dict(type="linear", factor=4.0)),
        dtype="F16",
        lora=dict(r=3, lora_alpha=6, target_modules=ALL_LINEAR,
                  rank_pattern={"down_proj": 5, "layers.1.self_attn.q_proj": 1},
                  alpha_pattern={"v_proj": 2, "layers.0.mlp.gate_proj": 9}),
        lengths=[[19, 37, 5], [33, 8, 41], [29, 30]], scheduler="constant"),
    "mistral_window": Case(
        "a sliding window of 37 under sequences three times as long, one kv head, head_dim 16, "
        "two weight files with an index; adapters on q_proj and v_proj only",
        dict(architectures=["MistralForCausalLM"], model_type="mistral", hidden_act="silu", **SPECIAL,
             vocab_size=89, hidden_size=38, intermediate_size=59, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=1, head_dim=16, max_position_embeddings=256,
             sliding_window=37, rms_norm_eps=1e-5, tie_word_embeddings=False, rope_theta=1000000.0,
             torch_dtype="float32"),
        shards=2, lora=dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]),
        lengths=[[113, 38, 37], [36, 75, 107], [90, 4]]),
    "qwen2": Case(
        "biases on q, k and v, as many kv heads as heads, a sliding window that is switched off, "
        "three bf16 weight files; rank-stabilised LoRA",
        dict(architectures=["Qwen2ForCausalLM"], model_type="qwen2", hidden_act="silu", **SPECIAL,
             vocab_size=103, hidden_size=40, intermediate_size=67, num_hidden_layers=2,
             num_attention_heads=5, num_key_value_heads=5, max_position_embeddings=128,
             sliding_window=8, use_sliding_window=False, max_window_layers=1, rms_norm_eps=1e-6,
             tie_word_embeddings=True, rope_theta=1000000.0, torch_dtype="bfloat16"),
        dtype="BF16", shards=3, lora=dict(r=5, lora_alpha=3, use_rslora=True, target_modules=ALL_LINEAR),
        lengths=[[43, 12, 27], [7, 21, 40], [35, 15]]),
    "qwen3": Case(
        "per-head norms on q and k, GQA of 3 over one kv head, head_dim 24; adapters on down_proj only",
        dict(architectures=["Qwen3ForCausalLM"], model_type="qwen3", hidden_act="silu", **SPECIAL,
             vocab_size=109, hidden_size=31, intermediate_size=57, num_hidden_layers=3,
             num_attention_heads=3, num_key_value_heads=1, head_dim=24, max_position_embeddings=128,
             attention_bias=False, rms_norm_eps=1e-6, tie_word_embeddings=False, dtype="float32",
             rope_parameters=dict(rope_type="default", rope_theta=1000000.0)),
        lora=dict(r=3, lora_alpha=6, target_modules=["down_proj"]),
        lengths=[[25, 49, 6], [45, 10, 32], [28, 39]]),
    "gemma3_text": Case(
        "two rotary bases, sliding and full layers by `sliding_window_pattern`, a query scale that is not "
        "head_dim, old keys, bf16 weights; weights per example",
        dict(architectures=["Gemma3ForCausalLM"], model_type="gemma3_text", **SPECIAL,
             hidden_activation="gelu_pytorch_tanh", vocab_size=113, hidden_size=36, intermediate_size=55,
             num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=1, head_dim=16,
             max_position_embeddings=256, sliding_window=19, sliding_window_pattern=2,
             query_pre_attn_scalar=20, rms_norm_eps=1e-6, rope_theta=1000000.0, rope_local_base_freq=10000.0,
             rope_scaling=None, attention_bias=False, attn_logit_softcapping=None, final_logit_softcapping=None,
             torch_dtype="bfloat16"),
        dtype="BF16", lora=dict(r=3, lora_alpha=6, target_modules=ALL_LINEAR),
        lengths=[[41, 20, 19], [18, 105, 9], [38, 14]], scheduler="linear", weights=True, stride=1),
}
