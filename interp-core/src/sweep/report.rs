//! What one trial cost and how far its numbers moved although nothing was changed. Knows nothing of effects.

/// What the engine says of a trial beside its effects. Nothing in here but `noise` is the same from one start to the next.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrialReport {
    /// Seconds that the unedited runs and their metrics took.
    pub runs_s: f64,
    /// Seconds that the waves took.
    pub waves_s: f64,
    /// Rows of all waves together as they end, the clean rows and the controls included.
    pub rows: usize,
    /// Waves that ran.
    pub waves: usize,
    /// How often a wave was halved because memory ran out.
    pub halvings: usize,
    /// Unedited runs made for this trial; those that an earlier trial left are not made again.
    pub prompts_run: usize,
    /// Most rows that a wave of this trial could have, controls apart.
    pub max_rows: usize,
    /// Per metric.
    pub noise: Vec<TrialNoise>,
}

/// How far one metric moved on one trial although nothing was changed, in the metric's unit. `None` when no wave ran.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TrialNoise {
    /// Largest |metric(row 0 of a wave) − metric(full clean pass)|.
    pub repeat: Option<f64>,
    /// Largest |δ| of the controls: rows among the edited ones that carry unedited copies of row 0.
    pub batch: Option<f64>,
}

impl TrialNoise {
    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        let larger = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::max);
        Self { repeat: larger(self.repeat, other.repeat), batch: larger(self.batch, other.batch) }
    }
}
