//! A corpus: processes and a seed to cases of every perturbation, in cohorts, with the pairs among those held out.

use std::collections::{BTreeMap, HashSet};

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::narrate::Setting;
use super::perturb::{Edited, Perturber, Phrases};
use super::process::{Binding, Process};
use super::record::{Gold, Meta, Pair, PairKind, Perturbation, Record};
use super::scaffold::Scaffold;
use super::trace::trace;
use super::words::procedure;
use crate::error::{Error, Result};

/// What a corpus is made of.
#[derive(Debug, Clone)]
pub struct CorpusSpec {
    /// Processes of all domains.
    pub processes: Vec<Process>,
    /// What may be put into a scenario.
    pub phrases: Phrases,
    /// Training cases wanted.
    pub n_train: usize,
    /// Held-out cases wanted, a third in each held-out cohort.
    pub n_test: usize,
    /// Seed of every draw.
    pub seed: u64,
}

/// A corpus.
#[derive(Debug, Clone, Default)]
pub struct Corpus {
    /// Cohorts by domain.
    pub train: Vec<Record>,
    /// Cohorts `fresh`, `bindings` and `processes`.
    pub test: Vec<Record>,
    /// Pairs of cases of `test`.
    pub pairs: Vec<Pair>,
    /// Per case of `train`: its worked solution.
    pub traces: Vec<Scaffold>,
    /// What became of every attempt.
    pub attempts: BTreeMap<Perturbation, Attempts>,
}

/// Attempts at one perturbation.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Attempts {
    /// Cases that passed.
    pub admitted: usize,
    /// The process or the narration has nothing that could be edited so.
    pub not_applicable: usize,
    /// Edits that did not pass, by reason.
    pub rejected: BTreeMap<String, usize>,
}

/// One case on its way into the corpus.
struct Case {
    record: Record,
    trace: Scaffold,
}

/// What a scenario was made from, beside its own edit.
struct Origin<'a> {
    name: &'static str,
    parent: Option<&'a str>,
    parent_gold: Gold,
}

/// Makes a corpus. `fits` may refuse a case, with the reason (too long for a model). Errs where the processes cannot give
/// as many different cases.
pub fn corpus(spec: &CorpusSpec, fits: &dyn Fn(&Record) -> Result<Option<String>>) -> Result<Corpus> {
    let mut maker = Maker { spec, fits, made: Corpus::default(), seen: HashSet::new() };
    let shares = maker.shares();
    // Held-out cases first: a training case that is one of them by chance is then left out.
    for (cohort, wanted) in [("fresh", 0), ("bindings", 1), ("processes", 2)] {
        let n = (spec.n_test + wanted) / 3;
        let places = &shares[wanted];
        maker.fill(cohort, places, n, wanted as u64, false)?;
    }
    maker.fill("", &shares[0], spec.n_train, 3, true)?;
    Ok(maker.made)
}

struct Maker<'a> {
    spec: &'a CorpusSpec,
    fits: &'a dyn Fn(&Record) -> Result<Option<String>>,
    made: Corpus,
    seen: HashSet<(String, String)>,
}

/// A process with the bindings that a cohort may use.
type Place<'a> = (&'a Process, Vec<Binding>);

impl<'a> Maker<'a> {
    /// Trained processes with trained bindings, the same processes with other bindings, and other processes: the last
    /// seventh of every domain.
    fn shares(&self) -> [Vec<Place<'a>>; 3] {
        let mut shares = [Vec::new(), Vec::new(), Vec::new()];
        let mut rng = ChaCha8Rng::seed_from_u64(self.spec.seed);
        for (i, process) in self.spec.processes.iter().enumerate() {
            let same = |other: &&Process| other.domain == process.domain;
            let n = self.spec.processes.iter().filter(same).count();
            let at = self.spec.processes[..i].iter().filter(same).count();
            let mut bindings = process.bindings();
            bindings.shuffle(&mut rng);
            if at >= n - n / 7 {
                shares[2].push((process, bindings));
                continue;
            }
            let held = bindings.split_off(bindings.len() - bindings.len() / 5);
            shares[0].push((process, bindings));
            if !held.is_empty() {
                shares[1].push((process, held));
            }
        }
        shares
    }

    /// Makes groups until `wanted` cases are there.
    fn fill(&mut self, cohort: &str, places: &[Place<'a>], wanted: usize, stream: u64, train: bool) -> Result<()> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.spec.seed);
        rng.set_stream(stream + 1);
        let mut order: Vec<usize> = (0..places.len()).collect();
        let (mut n, mut group, mut barren) = (0, 0, 0);
        while n < wanted {
            if group % places.len().max(1) == 0 {
                order.shuffle(&mut rng);
            }
            let Some((process, bindings)) = order.get(group % places.len().max(1)).map(|&i| &places[i]) else {
                return Err(few(cohort, 0, wanted));
            };
            let Some(binding) = bindings.choose(&mut rng) else { return Err(few(cohort, n, wanted)) };
            let cohort = if cohort.is_empty() { &process.domain } else { cohort };
            let made = self.group(Setting { process, binding }, (cohort, group), &mut rng, wanted - n, train)?;
            n += made;
            group += 1;
            barren = if made == 0 { barren + 1 } else { 0 };
            if barren > 50 * places.len() {
                return Err(few(cohort, n, wanted));
            }
        }
        Ok(())
    }

    /// Cases of one process, one binding and two narrations: a compliant one and one with a plain violation, and what can
    /// be made of them.
    fn group(
        &mut self,
        setting: Setting<'_>,
        (cohort, group): (&str, usize),
        rng: &mut ChaCha8Rng,
        room: usize,
        train: bool,
    ) -> Result<usize> {
        use Perturbation as P;
        let edits = Perturber { setting, phrases: &self.spec.phrases };
        let good = setting.narration(rng);
        let id = |name: &str| format!("{cohort}-{group:05}.{name}");
        let (whole, bad) = (id("whole"), id("broken"));
        let plain = edits.plain(&good, rng);
        let broken = plain.as_ref().map(|edited| edited.sentences.clone());
        let of_good = |name| Origin { name, parent: Some(&whole), parent_gold: Gold::Compliant };
        let of_bad = |name| Origin { name, parent: Some(&bad), parent_gold: Gold::NonCompliant };
        let some_violation = match rng.random_range(0..4) {
            0 => edits.reorder(&good, rng),
            1 => edits.omit_needed(&good, rng),
            2 => edits.lower_rank(&good, rng),
            _ => edits.plain(&good, rng),
        };
        let (honoured, ignored) = edits.exception(&good, rng).unzip();
        let mut wanted: Vec<(P, Origin<'_>, &[_], Option<Edited>)> = vec![
            (
                P::BaselineCompliant,
                Origin { name: "whole", parent: None, parent_gold: Gold::Compliant },
                &good,
                Some(Edited::none(good.clone())),
            ),
            (P::BaselineNoncompliant, of_good("broken"), &good, plain),
            (P::BaselineCompliant, of_good("swapped"), &good, edits.swap(&good, false, rng)),
            (P::LexicalParaphrase, of_good("whole-reworded"), &good, Some(edits.paraphrase(&good, rng))),
            (P::StepReorderInvalid, of_good("reordered"), &good, edits.reorder(&good, rng)),
            (P::PrerequisiteOmission, of_good("omitted"), &good, edits.omit_needed(&good, rng)),
            (P::HierarchyViolation, of_good("lower-rank"), &good, edits.lower_rank(&good, rng)),
            (P::ExceptionTrigger, of_good("honoured"), &good, honoured),
            (P::ExceptionTrigger, of_good("ignored"), &good, ignored),
            (P::DistractorInjection, of_good("whole-distracted"), &good, edits.distract(&good, rng)),
            (
                P::AdversarialSurfaceCompliant,
                of_good("whole-dressed"),
                &good,
                edits.dress(Edited::none(good.clone()), false, rng),
            ),
            (
                P::AdversarialSurfaceNoncompliant,
                of_good("broken-dressed"),
                &good,
                some_violation.and_then(|edited| edits.dress(edited, true, rng)),
            ),
        ];
        // One of the two only, so that neither label is the more frequent by far.
        if let Some(broken) = &broken {
            wanted.push(match rng.random_bool(0.5) {
                true => (P::LexicalParaphrase, of_bad("broken-reworded"), broken, Some(edits.paraphrase(broken, rng))),
                false => (P::DistractorInjection, of_bad("broken-distracted"), broken, edits.distract(broken, rng)),
            });
        }
        let mut kept: Vec<(&'static str, Gold)> = Vec::new();
        for (perturbation, origin, parent, edited) in wanted {
            if kept.len() == room {
                break;
            }
            let (name, has_parent) =
                (origin.name, origin.parent.is_none_or(|parent| kept.iter().any(|(name, _)| id(name) == parent)));
            if !has_parent {
                continue;
            }
            let attempts = self.made.attempts.entry(perturbation).or_default();
            let Some(edited) = edited else {
                attempts.not_applicable += 1;
                continue;
            };
            let refusal = edits.refusal(perturbation, parent, &edited);
            let case = case(&edits, perturbation, origin, edited, (cohort, &id(name)), self.spec.seed);
            let refusal = match refusal {
                Some(reason) => Some(reason.to_owned()),
                None => self.refused(&edits, &case.record)?,
            };
            let attempts = self.made.attempts.entry(perturbation).or_default();
            if let Some(reason) = refusal {
                *attempts.rejected.entry(reason).or_default() += 1;
                continue;
            }
            attempts.admitted += 1;
            kept.push((name, case.record.gold));
            if train {
                self.made.train.push(case.record);
                self.made.traces.push(case.trace);
            } else {
                self.made.test.push(case.record);
            }
        }
        if !train {
            self.made.pairs.extend(pairs(&kept, &id));
        }
        Ok(kept.len())
    }

    /// Reasons that have nothing to do with the perturbation. The text is read back by the rules, without the events that
    /// it was written from, and must have the label.
    fn refused(&mut self, edits: &Perturber<'_>, record: &Record) -> Result<Option<String>> {
        let cues = &edits.phrases.cues;
        let prefixes: Vec<String> = cues.compliance_prefix.iter().chain(&cues.violation_prefix).cloned().collect();
        let read = edits.setting.violations_of_text(&record.scenario, &prefixes);
        if read.is_empty() != (record.gold == Gold::Compliant) {
            return Ok(Some("its text reads otherwise than it was meant".into()));
        }
        if let Some(reason) = (self.fits)(record)? {
            return Ok(Some(reason));
        }
        let new = self.seen.insert((record.procedure.clone(), record.scenario.clone()));
        Ok((!new).then(|| "the corpus has it already".into()))
    }
}

fn case(
    edits: &Perturber<'_>,
    perturbation: Perturbation,
    origin: Origin<'_>,
    edited: Edited,
    (cohort, id): (&str, &str),
    seed: u64,
) -> Case {
    let setting = &edits.setting;
    let gold = match setting.violations(&edited.sentences).is_empty() {
        true => Gold::Compliant,
        false => Gold::NonCompliant,
    };
    let step = |step: usize| setting.process.steps[step].id.clone();
    let record = Record {
        id: id.into(),
        process_id: setting.process.id.clone(),
        cohort: cohort.into(),
        source: setting.process.source.clone(),
        domain: setting.process.domain.clone(),
        perturbation,
        parent_id: origin.parent.map(str::to_owned),
        procedure: procedure(setting.process, setting.binding),
        scenario: setting.text(&edited.sentences),
        question: "Is this scenario compliant with the procedure?".into(),
        gold,
        admit: true,
        meta: Meta {
            edited_steps: edited.steps.iter().map(|&one| step(one)).collect(),
            edge: edited.edge.map(|(earlier, later)| (step(earlier), step(later))),
            flips_gold: origin.parent.is_some() && gold != origin.parent_gold,
            seed,
        },
    };
    Case { trace: trace(setting, &edited.sentences, gold), record }
}

/// Pairs among the cases of one group.
fn pairs(kept: &[(&'static str, Gold)], id: &dyn Fn(&str) -> String) -> Vec<Pair> {
    const PAIRS: [(PairKind, &str, &str); 14] = [
        (PairKind::Flip, "whole", "broken"),
        (PairKind::Flip, "whole", "reordered"),
        (PairKind::Flip, "whole", "omitted"),
        (PairKind::Flip, "whole", "lower-rank"),
        (PairKind::Flip, "honoured", "ignored"),
        (PairKind::Flip, "whole-reworded", "broken-reworded"),
        (PairKind::Flip, "whole-dressed", "broken-dressed"),
        (PairKind::Anchor, "whole", "whole-reworded"),
        (PairKind::Anchor, "whole", "whole-distracted"),
        (PairKind::Anchor, "whole", "whole-dressed"),
        (PairKind::Anchor, "broken", "broken-reworded"),
        (PairKind::Anchor, "broken", "broken-distracted"),
        (PairKind::Swap, "whole", "swapped"),
        (PairKind::Swap, "whole", "reordered"),
    ];
    let has = |name: &str| kept.iter().any(|(kept, _)| *kept == name);
    let here = PAIRS.iter().filter(|(_, a, b)| has(a) && has(b));
    here.map(|&(kind, a, b)| Pair { kind, a: id(a), b: id(b) }).collect()
}

fn few(cohort: &str, found: usize, wanted: usize) -> Error {
    Error::Statistics {
        what: "cases",
        value: wanted.to_string(),
        problem: format!("the processes give no more than {found} different ones for cohort {cohort:?}: ask for fewer"),
    }
}
