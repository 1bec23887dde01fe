//! LoRA adapters: which linears carry one, its parameters, PEFT files, merging.
