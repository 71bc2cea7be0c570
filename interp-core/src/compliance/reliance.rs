//! The same cases under the procedure of another process: what a model that does not read procedures cannot tell apart.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::record::Record;
use crate::error::{Error, Result};
use crate::stats::below;

/// Every case with the procedure of a case of another process, drawn anew for each case; all else stays, the label included. The
/// same seed draws the same on every machine. Errs where there is one process only.
pub fn other_procedures(records: &[Record], seed: u64) -> Result<Vec<Record>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let other = |record: &Record| {
        let differs = |one: &&Record| one.process_id != record.process_id && one.procedure != record.procedure;
        let others: Vec<&Record> = records.iter().filter(differs).collect();
        if others.is_empty() {
            return Err(Error::Selector {
                what: "process",
                value: record.process_id.clone(),
                problem: "there is no other process to take a procedure from".into(),
                hint: Some("give cases of at least two processes".into()),
            });
        }
        let procedure = others[below(&mut rng, others.len())].procedure.clone();
        Ok(Record { procedure, ..record.clone() })
    };
    records.iter().map(other).collect()
}
