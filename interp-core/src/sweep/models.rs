//! The models and statistics that a sweep runs with. Runs nothing.

use super::Sweep;
use super::kept::KeptSources;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::intervention::Moments;
use crate::prompt::Prompt;
use crate::transfer::Correspondence;
use crate::trial::Trial;

/// The models and statistics a sweep runs with.
#[derive(Debug, Clone, Copy)]
pub struct Models<'a> {
    /// The checkpoint that is edited.
    pub base: &'a Decoder,
    /// For grafts: the checkpoint with the adapter active whose parts are grafted. `base` is then, for `graft`, the same without
    /// that adapter, and for `ungraft` the same with it.
    pub adapted: Option<&'a Decoder>,
    /// The other model that patches take from; `None` where source prompts run on `base`.
    pub donor: Option<Donor<'a>>,
    /// Statistics over prompts, for `mean` and `noise`.
    pub moments: Option<&'a Moments>,
}

/// Another model that patches take from. It runs a trial's source prompt, or the base prompt where a trial has no source.
#[derive(Debug, Clone, Copy)]
pub enum Donor<'a> {
    /// Loaded beside the edited model, of the same geometry where the sweep's site is concerned.
    Model(&'a Decoder),
    /// No longer there: what its runs left, kept for those trials that run.
    Kept(&'a KeptSources),
}

impl<'a> Models<'a> {
    /// One model, which donates to itself, without statistics.
    pub fn of(base: &'a Decoder) -> Self {
        Self { base, adapted: None, donor: None, moments: None }
    }

    /// Whether source and base run on the same weights.
    pub(super) fn same_weights(&self) -> bool {
        self.donor.is_none()
    }

    /// The prompt that donates on a trial.
    pub(super) fn donating<'t>(&self, trial: &'t Trial) -> Option<&'t Prompt> {
        trial.donating(self.donor.is_some())
    }

    /// The model that source prompts run on; `None` where their runs are kept.
    pub(super) fn source(&self) -> Option<&'a Decoder> {
        match self.donor {
            None => Some(self.base),
            Some(Donor::Model(donor)) => Some(donor),
            Some(Donor::Kept(_)) => None,
        }
    }

    /// Errs when the donor's activations have another shape than the edited model's, and when there is no adapter to graft.
    pub(super) fn check(&self, sweep: &Sweep) -> Result<()> {
        let site = sweep.site;
        if sweep.edit.is_graft() && self.adapted.is_none() {
            return Err(Error::Selector {
                what: "edit",
                value: "graft".into(),
                problem: "the model has no adapter whose parts could be taken".into(),
                hint: Some("give the checkpoint as MODEL+apply:ADAPTER".into()),
            });
        }
        match self.donor {
            Some(Donor::Model(donor)) => {
                Correspondence::new(site, self.base.config(), donor.config(), None, None).map(drop)
            }
            _ => Ok(()),
        }
    }
}
