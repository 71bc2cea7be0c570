//! The reference: the whole prompt through the whole model, and a hook that writes one place after the other. Shares the
//! decoder with the engine, and nothing else: no binding, no restart, no rows, no metrics.

use std::collections::HashMap;

use interp_core::cache::ActivationCache;
use interp_core::decoder::Decoder;
use interp_core::hooks::Hooks;
use interp_core::intervention::{Context, Donors, Edit, Edits, Intervention, Moments};
use interp_core::metric::Metric;
use interp_core::site::{HookPoint, Positions};
use tch::{Device, Kind, Tensor};

use super::meaning::{Change, visible};
use super::question::Question;
use crate::common::full_pass;

/// A question put to a decoder the plain way.
pub struct Naive<'a> {
    decoder: &'a Decoder,
    question: &'a Question,
    /// Whole runs of the source and of the other prompts, where the edit needs them.
    source: Option<ActivationCache>,
    others: Vec<ActivationCache>,
    clean: Vec<f64>,
    /// The same statistics as the engine gets them.
    pub moments: Moments,
}

impl<'a> Naive<'a> {
    pub fn new(decoder: &'a Decoder, question: &'a Question) -> Self {
        let layers = 0..decoder.config().n_layers;
        let mut points: Vec<HookPoint> = layers.map(|layer| HookPoint::new(question.sweep.site, layer)).collect();
        points.dedup();
        let run = |tokens: &[i64]| full_pass(decoder, tokens, &points).0;
        let edit = &question.sweep.edit;
        let source = question.trial.source.as_ref().filter(|_| matches!(edit, Edit::Patch));
        // Attention has a width of its own in every prompt, and no statistics over prompts.
        let averaged = matches!(edit, Edit::Mean | Edit::Noise(_)) && !question.sweep.site.is_attention();
        let others = if averaged { &question.others[..] } else { &[] };
        let others: Vec<ActivationCache> = others.iter().map(|tokens| run(tokens)).collect();
        let mut moments = Moments::default();
        others.iter().for_each(|cache| moments.add_run(&points, cache));
        let source = source.map(|source| run(&source.tokens));
        let clean = logits(decoder, &question.trial.base.tokens, &mut ());
        Self { decoder, question, source, others, clean, moments }
    }

    /// Metrics of the unedited base run.
    pub fn clean(&self) -> Vec<f64> {
        self.metrics(&self.clean)
    }

    /// Size of a metric that is `value` on an unedited run: what an effect has to be compared with. A difference of logits, or
    /// the logarithm of a probability near 1, may be small by chance; a KL divergence is 0 there and counts as 0.1 nats.
    pub fn size(&self, metric: Metric, value: f64) -> f64 {
        match metric {
            Metric::Logit | Metric::LogitDiff | Metric::LogProb => {
                self.clean.iter().fold(0.0, |largest, logit| logit.abs().max(largest))
            }
            Metric::Prob | Metric::Acc | Metric::Rank => value.abs(),
            Metric::Kl => 0.1,
        }
    }

    /// Metrics of the unedited source run, if there is a source.
    pub fn unedited_source(&self) -> Option<Vec<f64>> {
        let source = self.question.trial.source.as_ref()?;
        Some(self.metrics(&logits(self.decoder, &source.tokens, &mut ())))
    }

    /// δ of every metric for one cell.
    pub fn deltas(&self, cell: usize, changes: &[Change]) -> Vec<f64> {
        let noise = changes.iter().filter(|_| matches!(self.question.sweep.edit, Edit::Noise(_)));
        let noise = noise.map(|change| (change.at, self.noise(cell, change))).collect();
        let mut editor = Editor { naive: self, changes, noise, written: 0 };
        let edited = logits(self.decoder, &self.question.trial.base.tokens, &mut editor);
        let bound: usize = changes.iter().map(|change| change.places.len() * change.heads.len()).sum();
        assert_eq!(editor.written, bound, "the reference itself missed a place");
        self.clean().iter().zip(self.metrics(&edited)).map(|(clean, edited)| clean - edited).collect()
    }

    fn metrics(&self, logits: &[f64]) -> Vec<f64> {
        let target = self.question.trial.target;
        let of_clean = log_probs(&self.clean);
        let log_probs = log_probs(logits);
        let correct = target.correct as usize;
        let ahead = logits.iter().filter(|&&logit| logit >= logits[correct]).count();
        let metric = |metric: &Metric| match metric {
            Metric::LogitDiff => logits[correct] - logits[target.incorrect.expect("checked") as usize],
            Metric::Logit => logits[correct],
            Metric::Prob => log_probs[correct].exp(),
            Metric::LogProb => log_probs[correct],
            Metric::Acc => f64::from(ahead == 1),
            Metric::Rank => -(ahead as f64),
            Metric::Kl => of_clean.iter().zip(&log_probs).map(|(clean, edited)| clean.exp() * (edited - clean)).sum(),
        };
        self.question.sweep.metrics.iter().map(metric).collect()
    }

    /// The random numbers that a cell adds, over the whole activation: what its bound edit makes of zeros. The only thing
    /// taken from the engine, for they are its own to choose.
    fn noise(&self, cell: usize, change: &Change) -> Tensor {
        let set = [Intervention {
            at: change.at,
            heads: change.at.site.head_axis().map(|_| change.heads.clone()),
            positions: Positions::Index(change.places.iter().map(|&(pos, _)| pos as i64).collect()),
            edit: self.question.sweep.edit.clone(),
        }];
        let donors = Donors { moments: Some(&self.moments), ..Donors::default() };
        let trial = &self.question.trial;
        let context = Context::of_run(self.decoder, self.question.sweep.seed, &trial.id);
        let mut edits = Edits::bind_in_place((cell, &set), 1, &trial.base, &donors, &context).expect("binds");
        let mut shape = self.others[0].get(change.at).expect("recorded").size();
        shape[1] = trial.base.tokens.len() as i64;
        edits.visit(change.at, 0, Tensor::zeros(shape, (self.decoder.kind(), Device::Cpu)))
    }
}

/// Logits of the last position after a pass over all of the prompt, every position computed to the end.
fn logits<H: Hooks>(decoder: &Decoder, tokens: &[i64], hooks: &mut H) -> Vec<f64> {
    let _no_grad = tch::no_grad_guard();
    let resid = decoder.forward(decoder.embed(tokens), 0..tokens.len(), hooks);
    let logits = decoder.unembed(&resid, 0, None, hooks);
    numbers(&logits.get(0).get(-1))
}

fn log_probs(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total = largest + logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln();
    logits.iter().map(|logit| logit - total).collect()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double).contiguous()).expect("one axis")
}

/// The vector of an activation `[1, …]` at a position and head.
fn vector(act: &Tensor, at: HookPoint, pos: i64, head: usize) -> Tensor {
    let (act, head) = (act.get(0), head as i64);
    match (at.site.is_attention(), at.site.head_axis()) {
        (true, _) => act.get(head).get(pos),
        (false, Some(_)) => act.get(pos).get(head),
        (false, None) => act.get(pos),
    }
}

/// Writes one cell's changes.
struct Editor<'a> {
    naive: &'a Naive<'a>,
    changes: &'a [Change],
    noise: HashMap<HookPoint, Tensor>,
    written: usize,
}

impl Editor<'_> {
    fn edited(&self, at: HookPoint, (pos, source_pos): (usize, Option<usize>), head: usize, old: &[f64]) -> Vec<f64> {
        let question = self.naive.question;
        let combine = |other: Vec<f64>, f: fn(f64, f64) -> f64| old.iter().zip(other).map(|(&a, b)| f(a, b)).collect();
        let new: Vec<f64> = match &question.sweep.edit {
            Edit::Zero | Edit::UniformAttention => vec![0.0; old.len()],
            Edit::Scale(factor) => old.iter().map(|x| x * factor).collect(),
            Edit::Patch => {
                let source = self.naive.source.as_ref().and_then(|source| source.get(at)).expect("recorded");
                numbers(&vector(source, at, source_pos.expect("a patch") as i64, head))
            }
            Edit::Add { vector, factor } => {
                let vector = if vector.dim() == 2 { vector.get(head as i64) } else { vector.shallow_clone() };
                combine(numbers(&(vector * *factor)), |a, b| a + b)
            }
            Edit::Mean => {
                let distance = question.trial.base.tokens.len() - pos;
                let acts = self.naive.others.iter().map(|cache| cache.get(at).expect("recorded"));
                let reached: Vec<Vec<f64>> = acts
                    .filter(|act| act.size()[1] as usize >= distance)
                    .map(|act| numbers(&vector(act, at, act.size()[1] - distance as i64, head)))
                    .collect();
                let mean = |i: usize| reached.iter().map(|act| act[i]).sum::<f64>() / reached.len() as f64;
                (0..old.len()).map(mean).collect()
            }
            Edit::Noise(_) => combine(numbers(&vector(&self.noise[&at], at, pos as i64, head)), |a, b| a + b),
            Edit::Knockout { keys } => {
                let keys = question.trial.base.positions(keys, "t0").expect("checked");
                let score = |(key, &old)| if keys.contains(&key) { f64::NEG_INFINITY } else { old };
                old.iter().enumerate().map(score).collect()
            }
            Edit::Graft | Edit::Ungraft => unreachable!("an edit of an adapter, which these models do not have"),
        };
        if !at.site.is_attention() {
            return new;
        }
        // What a position may not attend to stays as it is.
        let mut kept = old.to_vec();
        visible(pos, at.layer, self.naive.decoder.config()).for_each(|key| kept[key] = new[key]);
        kept
    }
}

impl Hooks for Editor<'_> {
    fn wants(&self, at: HookPoint) -> bool {
        self.changes.iter().any(|change| change.at == at)
    }

    fn visit(&mut self, at: HookPoint, first_pos: usize, act: Tensor) -> Tensor {
        let act = act.copy();
        let n_pos = act.size()[if at.site.is_attention() { 2 } else { 1 }] as usize;
        for change in self.changes.iter().filter(|change| change.at == at) {
            for &place in change.places.iter().filter(|(pos, _)| (first_pos..first_pos + n_pos).contains(pos)) {
                for &head in &change.heads {
                    let mut there = vector(&act, at, (place.0 - first_pos) as i64, head);
                    let new = self.edited(at, place, head, &numbers(&there));
                    there.copy_(&Tensor::from_slice(&new));
                    self.written += 1;
                }
            }
        }
        act
    }
}
