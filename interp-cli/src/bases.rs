//! The base that several checkpoints share: its weights are in memory once, whatever adapters are applied beside them.

use anyhow::Result;
use interp_core::decoder::Decoder;

use crate::model::{BaseKey, Model};
use crate::output::Printer;

/// The base loaded last.
pub struct Bases {
    /// Whether its weights are laid out for sweeps.
    waves: bool,
    held: Option<(BaseKey, Decoder)>,
}

impl Bases {
    /// None yet. `waves` lays weights out for many passes of many rows.
    pub fn new(waves: bool) -> Self {
        Self { waves, held: None }
    }

    /// The model with its adapters. Loads only what is not there: a base that another model had is used again, another one
    /// makes room first.
    pub fn load(&mut self, model: &Model, printer: &Printer) -> Result<Decoder> {
        Ok(model.chain.apply(&self.base(model, printer)?)?)
    }

    /// The model without the adapters that are applied beside its weights.
    pub fn base(&mut self, model: &Model, printer: &Printer) -> Result<Decoder> {
        let key = model.base_key();
        if let Some((held, decoder)) = &self.held
            && Some(held) == key.as_ref()
        {
            return Ok(decoder.share());
        }
        self.held = None;
        let decoder = model.load_base(self.waves, printer)?;
        self.held = key.map(|key| (key, decoder.share()));
        Ok(decoder)
    }
}
