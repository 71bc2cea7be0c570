//! The ten perturbations: what each does to a narration, and the test that its result must pass to be admitted.

use rand::Rng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use super::narrate::{Sentence, Setting, likeness};
use super::record::Perturbation;
use super::rules::{Event, Violation, What};
use super::words::Wording;

/// Sentences and beginnings of sentences that touch no rule.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phrases {
    /// Domain to whole sentences.
    pub distractors: std::collections::BTreeMap<String, Vec<String>>,
    /// What sounds like an outcome.
    pub cues: Cues,
}

/// Words that sound like compliance, or like a violation, and state neither.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cues {
    /// `Per protocol, `.
    pub compliance_prefix: Vec<String>,
    /// Whole sentences.
    pub compliance_sentence: Vec<String>,
    /// `Without waiting for lunch, `.
    pub violation_prefix: Vec<String>,
    /// Whole sentences.
    pub violation_sentence: Vec<String>,
}

/// A narration after an edit.
#[derive(Debug, Clone)]
pub struct Edited {
    /// Its sentences.
    pub sentences: Vec<Sentence>,
    /// Steps that were touched.
    pub steps: Vec<usize>,
    /// The edge that was broken or crossed, earlier step first.
    pub edge: Option<(usize, usize)>,
}

/// Most that a paraphrase may share with its parent.
const MOST_LIKE: f64 = 0.6;

impl Edited {
    /// A narration that nothing was done to.
    pub fn none(sentences: Vec<Sentence>) -> Self {
        Self { sentences, steps: Vec::new(), edge: None }
    }

    fn of(sentences: Vec<Sentence>, step: usize) -> Self {
        Self { sentences, steps: vec![step], edge: None }
    }
}

/// Makes edits of narrations of one process.
pub struct Perturber<'a> {
    /// The process and its words.
    pub setting: Setting<'a>,
    /// What may be put in.
    pub phrases: &'a Phrases,
}

impl Perturber<'_> {
    /// One plain violation of a required step that can be seen: left out, by the wrong actor, on the wrong thing, or out
    /// of order. `None` if the draw gives none.
    pub fn plain(&self, from: &[Sentence], rng: &mut ChaCha8Rng) -> Option<Edited> {
        let steps = &self.setting.process.steps;
        let seen = |&i: &usize| !steps[i].optional && !steps[i].unobservable && self.setting.at(from, i).is_some();
        let step = (0..steps.len()).filter(seen).choose(rng)?;
        let at = self.setting.at(from, step)?;
        match rng.random_range(0..4) {
            0 => Some(Edited::of([&from[..at], &from[at + 1..]].concat(), step)),
            1 if !steps[step].authority => {
                let other = |role: &&String| **role != steps[step].role;
                let role = self.setting.process.ranks.iter().filter(other).choose(rng)?.clone();
                Some(Edited::of(with(from, at, |event| event.role = role), step))
            }
            2 => {
                let words = self.setting.other_object(step, rng)?;
                Some(Edited::of(with(from, at, |event| event.other_words = Some(words)), step))
            }
            3 => self.reorder(from, rng),
            _ => None,
        }
    }

    /// Two events that an edge joins change places.
    pub fn reorder(&self, from: &[Sentence], rng: &mut ChaCha8Rng) -> Option<Edited> {
        self.swap(from, true, rng)
    }

    /// Two events change places, all else as it was: across an edge, or between steps so that no edge is crossed.
    pub fn swap(&self, from: &[Sentence], across: bool, rng: &mut ChaCha8Rng) -> Option<Edited> {
        let edges = self.setting.process.edges();
        let step = |sentence: &Sentence| match sentence.event.what {
            What::Step(step) => Some(step),
            _ => None,
        };
        let swapped = |i: usize, j: usize| {
            let mut sentences = from.to_vec();
            sentences.swap(i, j);
            sentences
        };
        let mut all = Vec::new();
        for i in 0..from.len() {
            for j in i + 1..from.len() {
                let (Some(a), Some(b)) = (step(&from[i]), step(&from[j])) else { continue };
                let joined = edges.contains(&(a, b));
                let broken = !self.setting.violations(&swapped(i, j)).is_empty();
                if (across && joined) || (!across && !broken) {
                    all.push((i, j, joined.then_some((a, b)), vec![a, b]));
                }
            }
        }
        let (i, j, edge, steps) = all.choose(rng)?.clone();
        Some(Edited { sentences: swapped(i, j), steps, edge })
    }

    /// What a later step needs is left out.
    pub fn omit_needed(&self, from: &[Sentence], rng: &mut ChaCha8Rng) -> Option<Edited> {
        let process = self.setting.process;
        let mut all = Vec::new();
        for (later, step) in process.steps.iter().enumerate() {
            for needed in step.needs.iter().filter_map(|id| process.step(id)) {
                let told = self.setting.at(from, later).is_some();
                if told && !process.steps[needed].unobservable {
                    all.extend(self.setting.at(from, needed).map(|at| (at, needed, later)));
                }
            }
        }
        let &(at, needed, later) = all.choose(rng)?;
        let sentences = [&from[..at], &from[at + 1..]].concat();
        Some(Edited { sentences, steps: vec![needed, later], edge: Some((needed, later)) })
    }

    /// A step that asks for authority, by a lower rank.
    pub fn lower_rank(&self, from: &[Sentence], rng: &mut ChaCha8Rng) -> Option<Edited> {
        let process = self.setting.process;
        let may = |&i: &usize| process.steps[i].authority && self.setting.at(from, i).is_some();
        let step = (0..process.steps.len()).filter(may).choose(rng)?;
        let rank = process.rank(&process.steps[step].role)?;
        let role = process.ranks[..rank].choose(rng)?.clone();
        Some(Edited::of(with(from, self.setting.at(from, step)?, |event| event.role = role), step))
    }

    /// An exception is fired: honoured, and not.
    pub fn exception(&self, from: &[Sentence], rng: &mut ChaCha8Rng) -> Option<(Edited, Edited)> {
        let process = self.setting.process;
        let exception = (0..process.exceptions.len()).choose(rng)?;
        let rule = &process.exceptions[exception];
        let step = process.step(&rule.instead_of)?;
        let at = self.setting.at(from, step)?;
        let fact = self.setting.told(What::Fact(exception), String::new(), rng);
        let before = rng.random_range(0..=at);
        let mut ignored = from.to_vec();
        ignored.insert(before, Sentence { wording: Wording::Plain, ..fact });
        let mut honoured = ignored.clone();
        honoured[at + 1] = self.setting.told(What::Instead(exception), rule.role.clone(), rng);
        Some((Edited::of(honoured, step), Edited::of(ignored, step)))
    }

    /// Every act in other words.
    pub fn paraphrase(&self, from: &[Sentence], rng: &mut ChaCha8Rng) -> Edited {
        let other = |sentence: &Sentence| Sentence {
            wording: Wording::Reworded(rng.random_range(0..8)),
            event: sentence.event.clone(),
            prefix: String::new(),
        };
        Edited::none(from.iter().map(other).collect())
    }

    /// One to three sentences that touch nothing.
    pub fn distract(&self, from: &[Sentence], rng: &mut ChaCha8Rng) -> Option<Edited> {
        let pool = self.phrases.distractors.get(&self.setting.process.domain)?;
        let n = rng.random_range(1..=3);
        let mut sentences = from.to_vec();
        for text in pool.choose_multiple(rng, n).cloned().collect::<Vec<_>>() {
            sentences.insert(rng.random_range(0..=sentences.len()), aside(text));
        }
        Some(Edited::none(sentences))
    }

    /// Beginnings and sentences that sound compliant, or like a violation; the events stay as they are.
    pub fn dress(&self, edited: Edited, as_compliant: bool, rng: &mut ChaCha8Rng) -> Option<Edited> {
        let cues = &self.phrases.cues;
        let (prefixes, whole) = match as_compliant {
            true => (&cues.compliance_prefix, &cues.compliance_sentence),
            false => (&cues.violation_prefix, &cues.violation_sentence),
        };
        let mut sentences = edited.sentences;
        let n = rng.random_range(1..=2);
        for at in (0..sentences.len()).choose_multiple(rng, n) {
            sentences[at].prefix = prefixes.choose(rng)?.clone();
        }
        for text in whole.choose_multiple(rng, n).cloned().collect::<Vec<_>>() {
            sentences.insert(rng.random_range(0..=sentences.len()), aside(text));
        }
        Some(Edited { sentences, ..edited })
    }

    /// Why `edited`, made of `parent`, is not a case of `perturbation`; `None` if it is one.
    pub fn refusal(&self, perturbation: Perturbation, parent: &[Sentence], edited: &Edited) -> Option<&'static str> {
        let (before, after) = (self.setting.violations(parent), self.setting.violations(&edited.sentences));
        let acts = |sentences: &[Sentence]| -> Vec<Event> {
            let events = sentences.iter().map(|sentence| sentence.event.clone());
            events.filter(|event| !matches!(event.what, What::Aside(_))).collect()
        };
        let passed = match perturbation {
            Perturbation::BaselineCompliant | Perturbation::AdversarialSurfaceCompliant => after.is_empty(),
            Perturbation::BaselineNoncompliant | Perturbation::AdversarialSurfaceNoncompliant => after.len() == 1,
            Perturbation::ExceptionTrigger => after.len() <= 1,
            Perturbation::StepReorderInvalid => {
                edited.edge.is_some_and(|(a, b)| after.contains(&Violation::Order(a, b)))
            }
            Perturbation::PrerequisiteOmission => matches!(after[..], [Violation::Needs(..)]),
            Perturbation::HierarchyViolation => matches!(after[..], [Violation::Authority(_)]),
            Perturbation::DistractorInjection => after == before && acts(parent) == acts(&edited.sentences),
            Perturbation::LexicalParaphrase => {
                let like = likeness(&self.setting.text(parent), &self.setting.text(&edited.sentences));
                if like > MOST_LIKE {
                    return Some("shares too many words with its parent");
                }
                after == before && acts(parent) == acts(&edited.sentences)
            }
        };
        (!passed).then_some("its violations are not those that it should have")
    }
}

fn aside(text: String) -> Sentence {
    let event = Event { what: What::Aside(text), role: String::new(), other_words: None };
    Sentence { event, wording: Wording::Plain, prefix: String::new() }
}

fn with(from: &[Sentence], at: usize, change: impl FnOnce(&mut Event)) -> Vec<Sentence> {
    let mut sentences = from.to_vec();
    change(&mut sentences[at].event);
    sentences
}
