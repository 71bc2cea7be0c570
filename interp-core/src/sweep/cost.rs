//! How much arithmetic a sweep needs, from the geometry alone: FLOP = 2mnk of its matrix products. Runs nothing.
//!
//! Counted is what the question needs, not what an implementation happens to run: every row from its own layer, site and
//! position; attention over the keys that causality and window allow; in the last layer only keys, values and the position
//! that is read; and of the unembedding only the tokens that the metrics read. Norms, softmax and rope are not products.
//!
//! With m = n − pos positions in a layer (of which r are read: all m, or 1 in the last layer), w = n_heads·d_head,
//! w_kv = n_kv_heads·d_head, and s the sum over those r destinations of the keys each may see, a block is
//!
//! | product | FLOP | done by rows that enter at or below |
//! |---|---|---|
//! | q | 2·r·d_model·w | `resid_pre` |
//! | k and v | 4·m·d_model·w_kv | `resid_pre` |
//! | scores | 2·s·w | `k_copy` (not `v`, `v_copy`) |
//! | pattern times v | 2·s·w | `pattern` |
//! | o | 2·r·w·d_model | `z` |
//! | gate and up | 4·r·d_model·d_mlp | `resid_mid` |
//! | down | 2·r·d_mlp·d_model | `mlp_post` |
//!
//! and the unembedding 2·d_model per row and token read. A cell is one row; the clean row is one more, from the lowest layer
//! and the smallest position of any cell. A cell that causality makes null is no row.

use std::ops::Range;

use crate::config::ModelConfig;
use crate::error::Result;
use crate::intervention::{Context, Edits, Reach, common_prefix};
use crate::metric::Readout;
use crate::site::{HookPoint, Site};
use crate::sweep::Sweep;
use crate::trial::Trial;

/// FLOP of a plain pass over `n_tokens` to `n_logits` logits at the last of them.
pub fn pass_flop(config: &ModelConfig, n_tokens: usize, n_logits: usize) -> f64 {
    row(config, HookPoint::new(Site::Embed, 0), 0..n_tokens, n_logits)
}

impl Sweep {
    /// FLOP of the edited runs of one trial: its cells as rows, and the clean row that they are compared with.
    pub fn flop(&self, config: &ModelConfig, trial: &Trial) -> Result<f64> {
        let n_logits = self.n_logits(config, trial)?;
        let n_tokens = trial.base.tokens.len();
        let context = Context::of_prompt(config, &trial.id);
        let mut total = 0.0;
        let (mut layer, mut pos) = (config.n_layers, n_tokens);
        for cell in self.cells(config, trial)? {
            let reach = Edits::reach(&cell.set, &trial.base, trial.source.as_ref(), true, &context)?;
            let Some(Reach { at, pos: first, .. }) = reach else { continue };
            total += row(config, at, first..n_tokens, n_logits);
            layer = layer.min(if at.site == Site::LnFinal { config.n_layers - 1 } else { at.layer });
            pos = pos.min(first);
        }
        if total > 0.0 {
            total += row(config, HookPoint::new(Site::ResidPre, layer), pos..n_tokens, n_logits);
        }
        Ok(total)
    }

    /// FLOP of the unedited runs of one trial: base, and of the source what base does not begin with too.
    pub fn unedited_flop(&self, config: &ModelConfig, trial: &Trial) -> Result<f64> {
        let n_logits = self.n_logits(config, trial)?;
        let start = HookPoint::new(Site::Embed, 0);
        let base = row(config, start, 0..trial.base.tokens.len(), n_logits);
        let Some(source) = &trial.source else { return Ok(base) };
        let n_tokens = source.tokens.len();
        let common = common_prefix(&trial.base.tokens, &source.tokens).min(n_tokens - 1);
        Ok(base + row(config, start, common..n_tokens, n_logits))
    }

    /// Number of logits that the metrics read per row.
    fn n_logits(&self, config: &ModelConfig, trial: &Trial) -> Result<usize> {
        let readout = Readout::new(&self.metrics, trial.target, &trial.id)?;
        Ok(readout.tokens().map_or(config.d_vocab, |tokens| tokens.len()))
    }
}

/// One row from where it enters to its logits at the last position.
fn row(config: &ModelConfig, from: HookPoint, positions: Range<usize>, n_logits: usize) -> f64 {
    let unembed = 2.0 * (config.d_model * n_logits) as f64;
    if from.site == Site::LnFinal {
        return unembed;
    }
    let entered = block(config, from.layer, from.site, &positions);
    let above = from.layer + 1..config.n_layers;
    entered + above.map(|layer| block(config, layer, Site::ResidPre, &positions)).sum::<f64>() + unembed
}

/// One layer of one row that enters at `site` of it.
fn block(config: &ModelConfig, layer: usize, site: Site, positions: &Range<usize>) -> f64 {
    let last = layer + 1 == config.n_layers;
    let read = if last { positions.end - 1..positions.end } else { positions.clone() };
    let (m, r) = (positions.len() as f64, read.len() as f64);
    let window = config.windows[layer].unwrap_or(usize::MAX);
    let seen = read.map(|dest| (dest + 1).min(window)).sum::<usize>() as f64;
    let [d_model, d_mlp] = [config.d_model, config.d_mlp].map(|n| n as f64);
    let [wide, kv_wide] = [config.n_heads, config.n_kv_heads].map(|n| (n * config.d_head) as f64);

    let scores = site <= Site::KCopy && site != Site::V;
    let products = [
        (site <= Site::ResidPre, r * d_model * wide + 2.0 * m * d_model * kv_wide),
        (scores, seen * wide),
        (site <= Site::Pattern, seen * wide),
        (site <= Site::Z, r * wide * d_model),
        (site <= Site::ResidMid, 2.0 * r * d_model * d_mlp),
        (site <= Site::MlpPost, r * d_mlp * d_model),
    ];
    products.iter().filter(|(needed, _)| *needed).map(|(_, product)| 2.0 * product).sum()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::intervention::Edit;
    use crate::metric::Metric;
    use crate::prompt::Prompt;
    use crate::site::Positions;
    use crate::sweep::{Grid, HeadSet};
    use crate::trial::Target;

    /// Two layers of two heads that share one KV head; d_model 4, d_head 2, d_mlp 8, vocabulary 10.
    fn config(more: Value) -> ModelConfig {
        let mut json = json!({
            "model_type": "qwen2", "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
            "hidden_size": 4, "intermediate_size": 8, "vocab_size": 10,
        });
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ModelConfig::from_json(Path::new("config.json"), &json).unwrap()
    }

    fn trial() -> Trial {
        let prompt = |tokens: [i64; 3]| Prompt { tokens: tokens.to_vec(), spans: Default::default() };
        Trial {
            id: "t".into(),
            cluster: None,
            direction: None,
            base: prompt([1, 2, 3]),
            source: Some(prompt([1, 2, 4])),
            source_answer: None,
            target: Target { correct: 5, incorrect: Some(6) },
        }
    }

    fn sweep(site: Site, edit: Edit, grid: Grid, positions: Positions) -> Sweep {
        Sweep {
            site,
            edit,
            grid,
            positions: vec![positions],
            layers: 0..2,
            heads: None,
            metrics: vec![Metric::LogitDiff],
            max_rows: None,
            seed: 0,
        }
    }

    #[test]
    fn a_pass_by_hand() {
        let config = config(json!({}));
        // q, k and v, scores and mixture over 1 + 2 + 3 keys, o, gate and up, down.
        let whole = 96 + 96 + 2 * 48 + 96 + 384 + 192;
        // Only the last position of the last layer, but keys and values of all; it sees 3 keys.
        let last = 32 + 96 + 2 * 24 + 32 + 128 + 64;
        assert_eq!(pass_flop(&config, 3, 10), f64::from(whole + last + 2 * 4 * 10));
    }

    #[test]
    fn a_window_bounds_what_is_seen() {
        let window =
            |window: Value| pass_flop(&config(json!({"model_type": "mistral", "sliding_window": window})), 3, 1);
        // 1 + 2 + 2 instead of 1 + 2 + 3 keys below, 2 instead of 3 above; scores and mixture of 4 numbers each.
        assert_eq!(window(json!(null)) - window(json!(2)), 2.0 * (2.0 * 4.0) * 2.0);
    }

    #[test]
    fn a_row_counts_from_its_site() {
        let config = config(json!({}));
        let entered = |site| block(&config, 0, site, &(2..3));
        let (down, gate_and_up, o, mix, scores, kv, q) = (64.0, 128.0, 32.0, 24.0, 24.0, 32.0, 32.0);
        let behind_z = o + gate_and_up + down;
        for (site, flop) in [
            (Site::ResidPost, 0.0),
            (Site::MlpOut, 0.0),
            (Site::MlpPost, down),
            (Site::MlpPre, down),
            (Site::ResidMid, gate_and_up + down),
            (Site::AttnOut, gate_and_up + down),
            (Site::Result, gate_and_up + down),
            (Site::Z, behind_z),
            (Site::Pattern, mix + behind_z),
            (Site::Scores, mix + behind_z),
            (Site::VCopy, mix + behind_z),
            (Site::V, mix + behind_z),
            (Site::KCopy, scores + mix + behind_z),
            (Site::Q, scores + mix + behind_z),
            (Site::ResidPre, q + kv + scores + mix + behind_z),
        ] {
            assert_eq!(entered(site), flop, "{site}");
        }
        assert_eq!(row(&config, HookPoint::new(Site::LnFinal, 0), 2..3, 2), 16.0);
    }

    #[test]
    fn sweeps_by_hand() {
        let (config, trial) = (config(json!({})), trial());
        let flop = |sweep: &Sweep| sweep.flop(&config, &trial).unwrap();
        let last = Positions::Index(vec![-1]);
        let (behind_z, block, unembed) = (224.0, 336.0, 16.0);
        let clean = 2.0 * block + unembed;

        let heads = sweep(Site::Z, Edit::Patch, Grid::LayerHead, last.clone());
        let below = 2.0 * (behind_z + block + unembed);
        let above = 2.0 * (behind_z + unembed);
        assert_eq!(flop(&heads), below + above + clean);
        assert_eq!(heads.unedited_flop(&config, &trial).unwrap(), pass_flop(&config, 3, 2) + clean);

        // A set enters at its lowest layer; an empty one is no row.
        let head = |layer| crate::site::HeadRef { layer, head: 0 };
        let set = |heads: Vec<_>| HeadSet { name: format!("{heads:?}"), heads };
        let sets = Grid::Sets(vec![set(vec![]), set(vec![head(1), head(0)]), set(vec![head(1)])]);
        let sets = sweep(Site::Z, Edit::Zero, sets, last);
        assert_eq!(flop(&sets), (below + above) / 2.0 + clean);

        // Before the prompts differ a patch is null, so that all positions cost what the last one does.
        let all = sweep(Site::Z, Edit::Patch, Grid::LayerHead, Positions::All);
        assert_eq!(flop(&all), flop(&heads));
        // The whole vocabulary instead of two tokens, on each of five rows.
        let full = Sweep { metrics: vec![Metric::Kl], ..heads.clone() };
        assert_eq!(flop(&full) - flop(&heads), 5.0 * 2.0 * 4.0 * 8.0);
    }
}
