//! What a sweep cost: seconds, rows and memory, into `timing.json` and two lines of talk. Differs from start to start, so
//! nothing else in an output folder depends on it.

use std::path::Path;

use interp_core::Result;
use interp_core::export::write_atomic;
use interp_core::sweep::TrialReport;
use serde_json::{Value, json};

use crate::memory;
use crate::model::Model;

/// Cost of one start of a sweep.
#[derive(Debug)]
pub struct Timing {
    load_s: f64,
    after_load: Option<u64>,
    trials: Vec<(usize, TrialReport)>,
    /// Seconds that the precision part of the noise floor took, if it was measured.
    pub floor_s: Option<f64>,
}

impl Timing {
    /// To be called when the weights have been loaded, which took `load_s` seconds.
    pub fn new(load_s: f64) -> Self {
        Self { load_s, after_load: memory::held(), trials: Vec::new(), floor_s: None }
    }

    /// Adds a trial of this start.
    pub fn trial(&mut self, index: usize, report: &TrialReport) {
        self.trials.push((index, report.clone()));
    }

    /// Writes `timing.json`.
    pub fn write(&self, dir: &Path, model: &Model) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(&self.json(model)).expect("plain data is JSON");
        text.push(b'\n');
        write_atomic(&dir.join("timing.json"), &text)
    }

    fn json(&self, model: &Model) -> Value {
        let trial = |(index, report): &(usize, TrialReport)| {
            json!({
                "index": index,
                "runs_s": report.runs_s,
                "waves_s": report.waves_s,
                "rows": report.rows,
                "waves": report.waves,
                "halvings": report.halvings,
                "prompts_run": report.prompts_run,
            })
        };
        json!({
            "schema": "interp.timing/1",
            "device": model.devices.to_string(),
            "dtype": model.precision.dtype.to_string(),
            "weights": model.precision.weights.to_string(),
            "threads": tch::get_num_threads(),
            "load_s": self.load_s,
            "floor_s": self.floor_s,
            "peak_memory_bytes": memory::peak(),
            "device_memory_bytes": model.devices.used_gpu_memory(),
            "memory_after_load_bytes": self.after_load,
            "max_rows": self.max_rows(),
            "trials": self.trials.iter().map(trial).collect::<Vec<_>>(),
        })
    }

    /// What a user reads at the end.
    pub fn lines(&self) -> [String; 2] {
        let n = self.trials.len();
        let mean = |part: fn(&TrialReport) -> f64| {
            self.trials.iter().map(|(_, report)| part(report)).sum::<f64>() / n.max(1) as f64
        };
        let (runs, waves) = (mean(|report| report.runs_s), mean(|report| report.waves_s));
        let (n_waves, n_rows) = (mean(|report| report.waves as f64), mean(|report| report.rows as f64));
        let mut time = match n {
            0 => "time: no trial was left to run".to_owned(),
            _ => {
                let rows = n_rows / n_waves.max(f64::MIN_POSITIVE);
                let (waves_of, each) = (plural(n_waves, "wave"), runs + waves);
                let trials = plural(n as f64, "trial");
                format!(
                    "time: {trials}, {each:.3} s each: unedited runs {runs:.3} s, waves {waves:.3} s ({waves_of} of \
                     {rows:.0} rows)"
                )
            }
        };
        if let Some(seconds) = self.floor_s {
            time += &format!("; noise floor {seconds:.1} s");
        }
        let gigabytes = |bytes: Option<u64>| bytes.map_or("unknown".into(), |n| format!("{:.2} GB", n as f64 / 1e9));
        let mut held =
            format!("memory: peak {}, {} after loading", gigabytes(memory::peak()), gigabytes(self.after_load));
        let halvings: usize = self.trials.iter().map(|(_, report)| report.halvings).sum();
        if let (1.., Some(rows)) = (halvings, self.max_rows()) {
            held += &format!("; it ran out {halvings} times, and waves were halved to at most {rows} rows");
        }
        [time, held]
    }

    /// The least bound on rows that any trial had.
    fn max_rows(&self) -> Option<usize> {
        self.trials.iter().map(|(_, report)| report.max_rows).min()
    }
}

fn plural(n: f64, word: &str) -> String {
    if n == 1.0 { format!("1 {word}") } else { format!("{} {word}s", (n * 10.0).round() / 10.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lines_say_what_it_cost() {
        let mut timing = Timing::new(1.0);
        let report = TrialReport { runs_s: 0.5, waves_s: 1.5, rows: 40, waves: 2, max_rows: 21, ..Default::default() };
        timing.trial(3, &report);
        timing.trial(4, &TrialReport { runs_s: 0.0, halvings: 2, max_rows: 11, ..report });
        timing.floor_s = Some(2.04);
        let [time, memory] = timing.lines();
        assert_eq!(
            time,
            "time: 2 trials, 1.750 s each: unedited runs 0.250 s, waves 1.500 s (2 waves of 20 rows); noise floor 2.0 s"
        );
        let halved = "; it ran out 2 times, and waves were halved to at most 11 rows";
        assert!(memory.starts_with("memory: peak ") && memory.ends_with(halved), "{memory}");
        assert_eq!(Timing::new(0.0).lines()[0], "time: no trial was left to run");
    }
}
