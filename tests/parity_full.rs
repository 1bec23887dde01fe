//! Full fine-tuning against Transformers: the gradient of every weight, and the losses of AdamW's first updates.
//!
//! Every tolerance is a multiple of the case's `noise`, which is what rounding alone does to the reference.

mod golden;

use preceptor::ops::adamw::{self, Constants};
use preceptor::tensor::StoredFile;
use preceptor::train::schedule::{Decay, Schedule};
use preceptor::train::step::{self, Optimizer};

use golden::{Trained, cases, cpu, gap};

#[test]
fn gradients_of_every_weight() {
    let device = cpu(2);
    for case in cases().iter().filter(|case| case.trains_weights()) {
        let name = case.folder.display();
        let learner = case.learner(&device, Trained::Weights);
        let truth = StoredFile::open(&case.folder.join("grads_full.safetensors")).unwrap();
        let stride = case.reference["settings"]["full_stride"].as_u64().unwrap() as usize;
        let mut gradients = device.zeros(1, learner.len());
        let losses = step::gradient(&device, &learner, &[case.forest(0)], None, false, &mut gradients);
        let loss_gap = (step::mean_loss(&losses) - case.reference["loss_base"].as_f64().unwrap()).abs();
        assert!(loss_gap <= 10.0 * case.noise("losses"), "{name}: loss off by {loss_gap:e}");

        let parameters = learner.model.parameters();
        assert_eq!(truth.tensors().len(), parameters.len(), "{name}: a tied head has no gradient of its own");
        let (mut worst, noise) = (0.0_f64, case.noise("grads_full"));
        for parameter in parameters {
            let ours: Vec<f32> =
                gradients.values()[parameter.range.clone()].iter().copied().step_by(stride).collect();
            let theirs = truth.f32s(&parameter.name).unwrap();
            assert!(theirs.iter().any(|g| *g != 0.0), "{name}, {}: all zero", parameter.name);
            let gap = gap(&theirs, &ours);
            assert!(gap <= 10.0 * noise, "{name}, {}: {gap:e} > 10 * {noise:e}", parameter.name);
            worst = worst.max(gap);
        }
        println!("{name}: gradients {worst:.1e}, noise {noise:.1e}, loss {loss_gap:.1e}");
    }
}

#[test]
fn losses_of_the_first_updates() {
    let device = cpu(2);
    for case in cases().iter().filter(|case| case.trains_weights()) {
        let settings = &case.reference["settings"];
        let number = |key: &str| settings[key].as_f64().unwrap();
        let numbers = |key: &str| -> Vec<f64> {
            case.reference[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
        };
        let schedule = Schedule {
            peak: number("peak_lr"),
            warmup: number("warmup") as u64,
            updates: number("steps") as u64,
            decay: Decay::Constant, // all of these updates warm up
        };
        let (losses, norms) = (numbers("full_losses"), numbers("full_grad_norms"));
        assert!(losses.len() as u64 <= schedule.warmup);
        let mut learner = case.learner(&device, Trained::Weights);
        let mut optimizer = Optimizer::new(&device, learner.len());
        for (update, (loss, norm)) in losses.iter().zip(&norms).enumerate() {
            let forest = case.forest(update % case.batches.len());
            let of_sites =
                step::gradient(&device, &learner, &[forest], None, false, &mut optimizer.gradients);
            let our_norm = adamw::global_norm(&device, &optimizer.gradients);
            let loss_gap = (step::mean_loss(&of_sites) - loss).abs();
            let norm_gap = (our_norm / norm - 1.0).abs();
            let what = format!("{}, update {update}", case.folder.display());
            println!(
                "{what}: loss {loss_gap:.1e}, norm {norm_gap:.1e}, noise {:.1e}",
                case.noise("full_losses")
            );
            assert!(loss_gap <= 10.0 * case.noise("full_losses"), "{what}: loss off by {loss_gap:e}");
            assert!(norm_gap <= 1e-5, "{what}: norm off by {norm_gap:e}");
            let constants = Constants {
                learning_rate: schedule.rate(update as u64),
                beta1: 0.9,
                beta2: 0.999,
                epsilon: number("eps"),
                weight_decay: number("weight_decay"),
                update: update as u64 + 1,
                clip: 1.0,
            };
            step::apply(&device, &mut learner, &mut optimizer, our_norm, number("clip"), constants);
        }
    }
}
