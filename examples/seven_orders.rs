//! Trains one model in each of the seven orders of paper 1 and measures letter accuracy before and after.
//!
//! ```text
//! cargo run --release --example seven_orders -- MODEL DATA.jsonl OUT [TRAIN] [TEST]
//! ```
//!
//! DATA holds multiple-choice questions with `subject` and `difficulty`. The first TRAIN (160) and the next TEST
//! (200) questions of a seeded shuffle are used. OUT gets a folder a run, the table and the loss curves.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use preceptor::base::philox::{Philox, Purpose};
use preceptor::config::Config;
use preceptor::data::{Dataset, Encoder, LossOn};
use preceptor::device::Device;
use preceptor::model::Model;
use preceptor::report::chart::{Options, Series, line_chart};
use preceptor::report::{Line, metrics};
use preceptor::sampler::Strategy;
use preceptor::train::Outcome;
use preceptor::train::accuracy::{self, Report};
use preceptor::train::score::Scorer;
use preceptor::train::signals::StopSignal;
use preceptor::{adapter::peft, train};

const ORDERS: [Strategy; 7] = [
    Strategy::Sequential,
    Strategy::Random,
    Strategy::Curriculum,
    Strategy::Blocked,
    Strategy::BlockedCurriculum,
    Strategy::Interleaved,
    Strategy::InterleavedCurriculum,
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, data, out, sizes @ ..] = &arguments[..] else {
        return Err("usage: seven_orders MODEL DATA.jsonl OUT [TRAIN] [TEST]".into());
    };
    let size = |i: usize, default: usize| sizes.get(i).map_or(Ok(default), |text| text.parse());
    let (train_size, test_size) = (size(0, 160)?, size(1, 200)?);
    let out = PathBuf::from(out);
    std::fs::create_dir_all(&out)?;
    split(Path::new(data), &out, train_size, test_size)?;

    let mut config = Config::load(Path::new("examples/lek.toml"), &[])?;
    config.model.path = model.clone();
    config.data.train = out.join("train.jsonl");
    // The paper's rate for its smallest model; without dropout, so that prefixes are shared.
    config.train.learning_rate = 5e-4;
    config.adapter.lora_dropout = 0.0;

    let before = evaluate(&config, &out.join("test.jsonl"), None)?;
    let mut table = String::from(
        "| order | accuracy | 95 % interval | NLL | training | first 8 losses, mean | last 8, mean |\n|---|---|---|---|---|---|---|\n",
    );
    writeln!(table, "| before training | {} | | | |", row(&before))?;
    let mut curves = Vec::new();
    let stop = StopSignal::listen()?;
    for order in ORDERS {
        config.sampler.strategy = order;
        config.output.dir = out.join(order.name());
        let started = Instant::now();
        let (text, decisive) = (config.to_toml(), config.decisive());
        if let Outcome::Stopped(signal) = train::run(&config.job(&text, &decisive), true, &stop)? {
            return Err(format!("stopped by signal {signal}; run it again to go on").into());
        }
        let seconds = started.elapsed().as_secs_f64();
        let after = evaluate(&config, &out.join("test.jsonl"), Some(&config.output.dir.join("adapter")))?;
        let losses: Vec<(f64, f64)> = metrics::read(&config.output.dir.join("metrics.jsonl"))?
            .into_iter()
            .filter_map(|line| if let Line::Step(m) = line { Some((m.step as f64, m.loss)) } else { None })
            .collect();
        let mean = |part: &[(f64, f64)]| part.iter().map(|(_, loss)| loss).sum::<f64>() / part.len() as f64;
        let ends = 8.min(losses.len());
        let (first, last) = (mean(&losses[..ends]), mean(&losses[losses.len() - ends..]));
        writeln!(table, "| {order} | {} | {seconds:.0} s | {first:.3} | {last:.3} |", row(&after))?;
        eprint!("{table}");
        curves.push(Series { name: order.name().into(), points: losses });
    }
    let options = Options { title: "Loss by update".into(), x_label: "update".into(), ..Options::default() };
    std::fs::write(out.join("loss.svg"), line_chart(&curves, &options))?;
    std::fs::write(out.join("table.md"), table)?;
    Ok(())
}

fn row(report: &Report) -> String {
    let [low, high] = report.interval;
    format!(
        "{:.1} % | [{:.1}, {:.1}] | {:.4}",
        100.0 * report.accuracy,
        100.0 * low,
        100.0 * high,
        report.nll.expect("letters have probabilities")
    )
}

/// Writes train.jsonl and test.jsonl.
fn split(data: &Path, out: &Path, train: usize, test: usize) -> Result<(), Box<dyn Error>> {
    let text = std::fs::read_to_string(data)?;
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.len() < train + test {
        return Err(
            format!("{}: found {} questions, needed {}", data.display(), lines.len(), train + test).into()
        );
    }
    Philox::new(7, Purpose::Order).stream([0; 3]).shuffle(&mut lines);
    std::fs::write(out.join("train.jsonl"), lines[..train].join("\n") + "\n")?;
    std::fs::write(out.join("test.jsonl"), lines[train..train + test].join("\n") + "\n")?;
    Ok(())
}

fn evaluate(config: &Config, questions: &Path, adapter: Option<&Path>) -> Result<Report, Box<dyn Error>> {
    let device = Device::open(&config.device)?;
    let folder = Path::new(&config.model.path);
    let model = Model::open(folder, config.model.weights)?;
    let settings = preceptor::data::Settings { max_seq_length: model.spec().context, ..config.data.clone() };
    let encoder = Encoder::open(&settings, LossOn::Completion, 0.0, folder, model.spec().vocabulary)?;
    let mut data = Dataset::open(questions, settings.format, 0)?;
    data.prepare(&encoder)?;
    let adapter = adapter.map(|path| peft::read(&device, path, &model.spec().linears())).transpose()?;
    let scorer = Scorer {
        device: &device,
        model: &model,
        adapter: adapter.as_ref(),
        micro_batch_tokens: config.train.micro_batch_tokens,
    };
    Ok(accuracy::report(&scorer.letters(&data, &encoder)?))
}
