//! How far the numbers of a run may move although nothing was changed. Plain numbers; the engine measures them.

use serde::{Deserialize, Serialize};

use crate::stats;

/// Below this correlation with a higher precision, a ranking by effect says little.
const TRUSTED: f64 = 0.9;

/// How far numbers may move although nothing was changed, in units of δ. What was not measured is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct NoiseFloor {
    /// Largest |metric(row 0 of a wave) − metric(full clean pass)| of any trial.
    pub repeat: Option<f64>,
    /// Largest |δ| of rows that carry unedited copies of row 0 among the edited ones.
    pub batch: Option<f64>,
    /// Largest |δ − δ_ref|, where the runs and the wave that make δ_ref are computed one precision up.
    pub precision: Option<f64>,
    /// Correlation of δ and δ_ref, see [`stats::correlation`].
    pub correlation: Option<f64>,
}

impl NoiseFloor {
    /// The largest of the three that were measured.
    pub fn largest(&self) -> Option<f64> {
        [self.repeat, self.batch, self.precision].into_iter().flatten().reduce(f64::max)
    }

    /// With `precision` and `correlation` of these cells: δ as the run has it, and one precision up.
    #[must_use]
    pub fn against(self, effects: &[f64], reference: &[f64]) -> Self {
        let off = effects.iter().zip(reference).map(|(a, b)| (a - b).abs());
        Self { precision: off.reduce(f64::max), correlation: stats::correlation(effects, reference), ..self }
    }

    /// Whether effects are so close to the noise that even their order cannot be trusted.
    pub fn drowns(&self) -> bool {
        self.correlation.is_some_and(|correlation| correlation < TRUSTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_what_the_cells_say() {
        let before = NoiseFloor { repeat: Some(0.5), batch: Some(0.125), ..NoiseFloor::default() };
        let floor = before.against(&[1.0, 2.0, 4.0], &[1.0, 2.25, 3.0]);
        assert_eq!((floor.precision, floor.largest(), floor.drowns()), (Some(1.0), Some(1.0), false));
        let floor = before.against(&[1.0, 2.0, 3.0], &[1.25, 1.0, 1.125]);
        assert!(floor.drowns(), "{floor:?}");
        let floor = before.against(&[0.0, 0.0, 0.0], &[0.0, 0.25, 0.125]);
        assert_eq!((floor.precision, floor.drowns()), (Some(0.25), true), "effects too small to be seen at all");
        let floor = before.against(&[0.0, 0.0], &[0.0, 0.25]);
        assert_eq!((floor.precision, floor.correlation, floor.drowns()), (Some(0.25), None, false));
        assert_eq!(before.against(&[], &[]).largest(), Some(0.5), "nothing was compared");
    }
}
