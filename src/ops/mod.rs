//! One op a file: its equation and shapes, and its plain CPU form.
//!
//! Dimensions, here and in `model`: N tokens, D model width, H query heads, K key-value heads, E head
//! width, F feed-forward width, V vocabulary, R adapter rank. Buffers are row-major, one token a row.
//!
//! | op | shapes | does |
//! |---|---|---|
//! | [`embedding`] | V x D, N -> N x D | looks rows up |
//! | [`rmsnorm`] | N x D | root-mean-square norm, also per head |
//! | [`linear`] | N x in, out x in -> N x out | frozen matrix product |
//! | [`lora`] | N x in -> N x out | low-rank update and its gradients |
//! | [`rope`] | N x H x E | rotary positions |
//! | [`attention`] | Nq x H x E, N x K x E | attention over the token forest |
//! | [`gated`] | N x F | SwiGLU and GeGLU |
//! | [`rows`] | N x D | adds, gathers and scatters rows |
//! | [`cross_entropy`] | S x D, V x D -> loss | LM head and loss, chunked |
//! | [`adamw`] | P | gradient norm and update |

pub mod adamw;
pub mod attention;
pub mod cross_entropy;
pub mod embedding;
pub mod gated;
pub mod linear;
pub mod lora;
pub mod rmsnorm;
pub mod rope;
pub mod rows;
