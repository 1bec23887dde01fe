//! What must not change a result, and by how much it may.

use serde_json::Value;

use super::sandbox::Sandbox;
use super::{adapter, column, gap, steady, steps, train};

const BASE: [&str; 2] = ["train.epochs=2", "train.learning_rate=1e-3"];

fn run(s: &Sandbox, out: &str, sets: &[&str]) {
    train(s, out, &[&BASE, sets].concat());
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let s = Sandbox::new();
    for dropout in ["adapter.lora_dropout=0", "adapter.lora_dropout=0.2"] {
        run(&s, &format!("{dropout}-1"), &[dropout, "--threads 1"]);
        for threads in [2, 3] {
            let out = format!("{dropout}-{threads}");
            run(&s, &out, &[dropout, &format!("--threads {threads}")]);
            assert_eq!(adapter(&s, &out), adapter(&s, &format!("{dropout}-1")), "{out}");
            assert_eq!(steady(&s, &out), steady(&s, &format!("{dropout}-1")), "{out}");
        }
    }
}

#[test]
fn recomputed_blocks_give_the_same_bits() {
    let s = Sandbox::new();
    for dropout in ["adapter.lora_dropout=0", "adapter.lora_dropout=0.2"] {
        run(&s, &format!("{dropout}-kept"), &[dropout]);
        run(&s, &format!("{dropout}-recomputed"), &[dropout, "train.recompute=true"]);
        assert_eq!(adapter(&s, &format!("{dropout}-kept")), adapter(&s, &format!("{dropout}-recomputed")));
    }
}

/// Micro-batches, and with them which prefixes are shared, only change the order of sums: losses agree to a
/// few units of f32 rounding. Another dropout seed shows how far apart they are where the masks differ.
#[test]
fn micro_batches_change_sums_by_rounding_and_masks_not_at_all() {
    let s = Sandbox::new();
    for (name, dropout) in [("plain", "adapter.lora_dropout=0"), ("dropped", "adapter.lora_dropout=0.2")] {
        let outs = [16, 30, 4096].map(|tokens| {
            let out = format!("{name}-{tokens}");
            run(&s, &out, &[dropout, &format!("train.micro_batch_tokens={tokens}")]);
            out
        });
        let whole = steps(&s, &outs[2]);
        for out in &outs[..2] {
            let cut = steps(&s, out);
            assert_eq!(column(&cut, "trained_tokens"), column(&whole, "trained_tokens"));
            if out == "plain-16" {
                let computed = |lines| column(lines, "computed_tokens").iter().sum::<f64>();
                assert!(computed(&cut) > computed(&whole), "single examples share no prefix");
            }
            let apart = apart(&column(&cut, "loss"), &column(&whole, "loss"));
            println!("{out}: losses {apart:.1e}, adapters {:.1e}", gap(&s, out, &outs[2]));
            assert!(apart <= 1e-6, "{out}: {apart:e}");
        }
    }
    run(&s, "other", &["adapter.lora_dropout=0.2", "train.seed=43", "adapter.init_from=a"]);
    run(&s, "one", &["adapter.lora_dropout=0.2", "train.seed=42", "adapter.init_from=a"]);
    let apart = apart(&column(&steps(&s, "other"), "loss"), &column(&steps(&s, "one"), "loss"));
    assert!(apart > 1e-4, "other masks are seen: {apart:e}");
}

/// The largest relative difference.
fn apart(x: &[f64], y: &[f64]) -> f64 {
    assert_eq!(x.len(), y.len());
    x.iter().zip(y).map(|(x, y)| (x - y).abs() / y.abs()).fold(0.0, f64::max)
}

#[test]
fn shared_prefixes_change_sums_by_rounding() {
    let s = Sandbox::new();
    run(&s, "on", &["train.share_prefixes=on"]);
    run(&s, "off", &["train.share_prefixes=off"]);
    let [on, off] = ["on", "off"].map(|out| steps(&s, out));
    // the last token of an example predicts nothing
    let predicting = |line: &Value| line["tokens"].as_f64().unwrap() - line["examples"].as_f64().unwrap();
    assert_eq!(column(&off, "computed_tokens"), off.iter().map(predicting).collect::<Vec<_>>());
    assert!(
        column(&on, "computed_tokens").iter().zip(column(&off, "computed_tokens")).any(|(on, off)| *on < off)
    );
    let apart = apart(&column(&on, "loss"), &column(&off, "loss"));
    assert!(apart <= 1e-6, "{apart:e}");
}
