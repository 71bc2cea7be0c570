//! SOCRATES's evaluation: predictions of how people answered, read as numbers and compared by person and by distribution.
//!
//! Two Wasserstein distances, by name. `w1_self_minmax` is that of the released script: within a study's condition, true and
//! predicted answers are each stretched to 0..1 by their own extremes, so that two different constants are at distance 0.
//! `w1_ref_range` puts both on the range of the human answers and cuts predictions off there; it tells constants apart, and is
//! comparable to the paper's. Neither means anything without the distance of uniform guessing, which stands beside both.

mod distance;
mod file;
mod metrics;
mod prompt;
mod splits;

pub use self::distance::{Distances, Group, groups};
pub use self::file::{check, from_json, is_metrics, is_one, metrics_json, rows_json};
pub use self::metrics::{CLEAN, Metrics, Study, cleaned, metrics};
pub use self::prompt::{Question, alpaca, chat, number};
pub use self::splits::{Leak, Split, leaks};

/// One person's answer and what a model predicted.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// What names the row, where anything does.
    pub id: Option<String>,
    /// The study.
    pub study: String,
    /// The condition within the study, as text.
    pub condition: String,
    /// What the model was told.
    pub input: String,
    /// What the person answered.
    pub answer: String,
    /// What the model generated.
    pub predicted: String,
    /// The first number of the answer.
    pub true_number: Option<f64>,
    /// The first number of the prediction.
    pub predicted_number: Option<f64>,
}

impl Prediction {
    /// Both numbers, where both are there.
    pub fn pair(&self) -> Option<(f64, f64)> {
        self.true_number.zip(self.predicted_number)
    }
}
