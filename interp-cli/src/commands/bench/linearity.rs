//! Seconds of a sweep against the number of heads, layers, tokens and trials: the figure and its numbers.

use std::path::Path;

use anyhow::Result;
use interp_core::Error;
use interp_core::config::ModelConfig;
use interp_core::decoder::Decoder;
use interp_core::export::write_atomic;
use interp_core::plot::{self, Panel};
use interp_core::site::HeadRef;
use interp_core::stats;
use interp_core::sweep::Sweep;
use interp_core::trial::Trial;
use serde_json::{Value, json};

use super::case::{Case, trial};
use super::clock::{Seconds, timed};
use super::report::geometry;
use super::{measure, open};
use crate::cli::BenchArgs;
use crate::output::{Exit, Printer};

/// What is swept; every row of it runs at all positions.
const CASE: Case = Case::ZeroAll;

/// Tokens of the prompt where their number is not what varies.
const TOKENS: usize = 32;

/// Points per panel.
const POINTS: usize = 6;

/// What is varied, with the other three held.
#[derive(Debug, Clone, Copy)]
enum Axis {
    /// Heads of every layer.
    Heads,
    /// Layers, spread evenly over the depth.
    Layers,
    Tokens,
    Trials,
}

/// One panel: the settings, and the seconds of every repeat at each.
struct Varied {
    axis: Axis,
    settings: Vec<usize>,
    seconds: Vec<Seconds>,
}

/// Writes `linearity.svg` and `linearity.json` into `out` and prints their paths.
pub fn linearity(args: &BenchArgs, out: &Path, printer: &Printer) -> Result<Exit> {
    let model = open(args, "small")?;
    let config = model.checkpoint.config();
    let axes = [Axis::Heads, Axis::Layers, Axis::Tokens, Axis::Trials];
    let settings = axes.map(|axis| axis.settings(config));
    std::fs::create_dir_all(out).map_err(Error::io("create", out))?;
    let decoder = model.load_for_waves(printer)?;
    let mut varied = Vec::new();
    for (axis, settings) in axes.into_iter().zip(settings) {
        printer.talk(&format!("measuring {}", axis.name()));
        varied.push(vary(axis, settings, &decoder, args)?);
    }

    let json = json!({
        "schema": "interp.linearity/1",
        "tool_version": env!("CARGO_PKG_VERSION"),
        "model": model.checkpoint.name(),
        "geometry": geometry(config),
        "dtype": model.precision.dtype.to_string(),
        "device": model.devices.to_string(),
        "threads": tch::get_num_threads(),
        "seed": args.seed,
        "sweep": CASE.to_string(),
        "held": { "heads": config.n_heads, "layers": config.n_layers, "tokens": TOKENS, "trials": 1 },
        "panels": varied.iter().map(Varied::json).collect::<Vec<_>>(),
    });
    let title = format!("Seconds of a sweep ({CASE})");
    let subtitle = format!(
        "{}: {} layers of {} heads, {TOKENS} tokens, 1 trial unless varied; {}, {}, {} threads; medians of {}",
        model.checkpoint.name(),
        config.n_layers,
        config.n_heads,
        model.precision.dtype,
        model.devices,
        tch::get_num_threads(),
        args.repeats,
    );
    let panels: Vec<Panel> = varied.iter().map(Varied::panel).collect();
    let files =
        [("linearity.svg", plot::panels_svg(&title, &subtitle, &panels)?), ("linearity.json", format!("{json:#}\n"))];
    for (name, content) in files {
        let path = out.join(name);
        write_atomic(&path, content.as_bytes())?;
        printer.data(&format!("{}\n", path.display()))?;
    }
    Ok(Exit::Done)
}

/// Measures every setting in turn, `repeats` times over, after once that does not count: what else the machine does meanwhile
/// falls on all settings alike.
fn vary(axis: Axis, settings: Vec<usize>, decoder: &Decoder, args: &BenchArgs) -> Result<Varied> {
    let mut seconds = vec![Seconds::default(); settings.len()];
    for repeat in 0..=args.repeats.get() {
        for (&setting, seconds) in settings.iter().zip(&mut seconds) {
            let (sweep, trials) = axis.at(setting, decoder.config(), args);
            let run = || trials.iter().try_for_each(|trial| measure::run(decoder, &sweep, trial).map(drop));
            let (taken, done) = timed(decoder.devices(), run);
            done?;
            if repeat > 0 {
                seconds.0.push(taken);
            }
        }
    }
    Ok(Varied { axis, settings, seconds })
}

impl Axis {
    fn name(self) -> &'static str {
        match self {
            Axis::Heads => "heads",
            Axis::Layers => "layers",
            Axis::Tokens => "tokens",
            Axis::Trials => "trials",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Axis::Heads => "heads per layer",
            Axis::Layers => "layers swept, spread over the depth",
            Axis::Tokens => "tokens of the prompt",
            Axis::Trials => "trials",
        }
    }

    /// Up to six different settings, from small to all.
    fn settings(self, config: &ModelConfig) -> Vec<usize> {
        let parts = |all: usize| {
            let mut parts: Vec<usize> = (1..=POINTS).map(|i| (all * i).div_ceil(POINTS)).collect();
            parts.dedup();
            parts
        };
        match self {
            Axis::Heads => parts(config.n_heads),
            // Those that divide the depth, since only they can be spread evenly.
            Axis::Layers => (1..=config.n_layers).filter(|n| config.n_layers.is_multiple_of(*n)).collect(),
            Axis::Tokens => parts((4 * TOKENS).min(config.n_ctx)),
            Axis::Trials => (1..=POINTS).collect(),
        }
    }

    /// The sweep and its trials at one setting.
    fn at(self, setting: usize, config: &ModelConfig, args: &BenchArgs) -> (Sweep, Vec<Trial>) {
        let mut sweep = CASE.sweep(config, args.seed, args.max_rows.map(Into::into));
        let (mut n_tokens, mut n_trials) = (TOKENS.min(config.n_ctx), 1);
        let heads = |layers: &[usize], n_heads: usize| {
            Some(layers.iter().flat_map(|&layer| (0..n_heads).map(move |head| HeadRef { layer, head })).collect())
        };
        match self {
            Axis::Heads => sweep.heads = heads(&(0..config.n_layers).collect::<Vec<_>>(), setting),
            Axis::Layers => {
                let step = config.n_layers / setting;
                // The middle of every stretch, so that the mean depth stays.
                let layers: Vec<usize> = (0..setting).map(|i| i * step + step / 2).collect();
                sweep.heads = heads(&layers, config.n_heads);
            }
            Axis::Tokens => n_tokens = setting,
            Axis::Trials => n_trials = setting,
        }
        let trials = (0..n_trials as u64).map(|index| trial(config, n_tokens, args.seed, index)).collect();
        (sweep, trials)
    }
}

impl Varied {
    /// (setting, median seconds).
    fn points(&self) -> Vec<(f64, f64)> {
        self.settings.iter().zip(&self.seconds).map(|(&x, seconds)| (x as f64, seconds.median())).collect()
    }

    fn json(&self) -> Value {
        let line = stats::Line::fit(&self.points());
        json!({
            "axis": self.axis.name(),
            "x": self.settings,
            "seconds": self.seconds.iter().map(|seconds| &seconds.0).collect::<Vec<_>>(),
            "median": self.seconds.iter().map(Seconds::median).collect::<Vec<_>>(),
            "line": line.map(|line| json!({ "intercept": line.intercept, "slope": line.slope, "r2": line.r2 })),
        })
    }

    fn panel(&self) -> Panel {
        let points = self.points();
        let last = self.settings.last().map_or(0.0, |&x| x as f64);
        // From x = 0, or from where it crosses y = 0 if that is later.
        let start = |line: &stats::Line| if line.intercept < 0.0 { -line.intercept / line.slope } else { 0.0 };
        let line = stats::Line::fit(&points).map(|line| plot::Line {
            ends: [start(&line), last].map(|x| (x, line.at(x))),
            said: format!("{:.4} + {:.4} x, R² = {:.4}", line.intercept, line.slope, line.r2),
        });
        Panel { x: self.axis.label().into(), y: "seconds".into(), points, line }
    }
}
