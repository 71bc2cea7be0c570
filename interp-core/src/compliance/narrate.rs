//! One scenario, sentence by sentence: drawn in a valid order, edited, written out, and read back from its own text.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::process::{Binding, Process, slots_of};
use super::rules::{Event, Violation, What, violations};
use super::words::{Wording, capital, readings, sentence, small};

/// A sentence with what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// What it says.
    pub event: Event,
    /// How it says so.
    pub wording: Wording,
    /// Words before it that say nothing: `Per protocol, `.
    pub prefix: String,
}

/// A process under a choice of words.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// The rules.
    pub process: &'a Process,
    /// Their words.
    pub binding: &'a Binding,
}

impl Setting<'_> {
    /// All required steps, and some optional ones, in a random order that keeps every edge.
    pub fn narration(&self, rng: &mut ChaCha8Rng) -> Vec<Sentence> {
        let steps = &self.process.steps;
        let needed = |i: usize| steps.iter().any(|later| later.needs.contains(&steps[i].id));
        let mut left: Vec<usize> =
            (0..steps.len()).filter(|&i| !steps[i].optional || needed(i) || rng.random_bool(0.6)).collect();
        let edges = self.process.edges();
        let mut told = Vec::new();
        while !left.is_empty() {
            let free = |&&step: &&usize| !edges.iter().any(|&(from, to)| to == step && left.contains(&from));
            let ready: Vec<usize> = left.iter().filter(free).copied().collect();
            // A checked process has no circle, so something is always ready.
            let Some(&step) = ready.choose(rng) else { break };
            left.retain(|&one| one != step);
            told.push(self.told(What::Step(step), self.allowed(step, rng), rng));
        }
        told
    }

    /// A role that may do the step: mostly its own.
    fn allowed(&self, step: usize, rng: &mut ChaCha8Rng) -> String {
        let (step, ranks) = (&self.process.steps[step], &self.process.ranks);
        let above = ranks.iter().skip_while(|role| **role != step.role).skip(1).collect::<Vec<_>>();
        match above.choose(rng) {
            Some(role) if step.authority && rng.random_bool(0.3) => (*role).clone(),
            _ => step.role.clone(),
        }
    }

    /// An event in plain or passive words.
    pub fn told(&self, what: What, role: String, rng: &mut ChaCha8Rng) -> Sentence {
        let wording = if rng.random_bool(0.6) { Wording::Plain } else { Wording::Passive };
        Sentence { event: Event { what, role, other_words: None }, wording, prefix: String::new() }
    }

    /// The scenario's text.
    pub fn text(&self, sentences: &[Sentence]) -> String {
        let one = |said: &Sentence| {
            let text = sentence(self.process, self.binding, &said.event, said.wording);
            match said.prefix.is_empty() {
                true => text,
                false => format!("{}{}", said.prefix, small(&text)),
            }
        };
        sentences.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    /// What the events violate.
    pub fn violations(&self, sentences: &[Sentence]) -> Vec<Violation> {
        let events: Vec<Event> = sentences.iter().map(|sentence| sentence.event.clone()).collect();
        violations(self.process, &events)
    }

    /// What a text violates, read from the text alone. `prefixes` are what may stand before a sentence.
    pub fn violations_of_text(&self, scenario: &str, prefixes: &[String]) -> Vec<Violation> {
        let known = readings(self.process, self.binding);
        let event = |text: &str| {
            let bare = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix.as_str())).map(capital);
            let found = known.get(text).or_else(|| known.get(bare.as_ref()?)).cloned();
            found.unwrap_or(Event { what: What::Aside(text.into()), role: String::new(), other_words: None })
        };
        let mut events = Vec::new();
        let mut rest = scenario.trim();
        while !rest.is_empty() {
            let end = rest.find(['.', '!', '?']).map_or(rest.len(), |end| end + 1);
            events.push(event(&rest[..end]));
            rest = rest[end..].trim_start();
        }
        violations(self.process, &events)
    }

    /// Where a step is told.
    pub fn at(&self, sentences: &[Sentence], step: usize) -> Option<usize> {
        sentences.iter().position(|sentence| sentence.event.what == What::Step(step))
    }

    /// The step's words with another filling of one of its slots, if it has a slot that can be filled otherwise.
    pub fn other_object(&self, step: usize, rng: &mut ChaCha8Rng) -> Option<Binding> {
        let mut slots: Vec<&str> = slots_of(&self.process.steps[step].did).collect();
        slots.shuffle(rng);
        slots.into_iter().find_map(|slot| {
            let taken = &self.binding.slots[slot];
            let others: Vec<&String> = self.process.slots[slot].iter().filter(|word| *word != taken).collect();
            let word = (*others.choose(rng)?).clone();
            let mut binding = self.binding.clone();
            binding.slots.insert(slot.into(), word);
            Some(binding)
        })
    }
}

/// Words that carry meaning, in lower case.
fn content_words(text: &str) -> std::collections::BTreeSet<String> {
    const EMPTY: [&str; 18] = [
        "the", "a", "an", "by", "of", "on", "in", "to", "was", "were", "for", "with", "at", "and", "from", "it", "up",
        "out",
    ];
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase);
    words.filter(|word| !EMPTY.contains(&word.as_str())).collect()
}

/// Content words shared, among all that either text has.
pub fn likeness(a: &str, b: &str) -> f64 {
    let (a, b) = (content_words(a), content_words(b));
    a.intersection(&b).count() as f64 / a.union(&b).count().max(1) as f64
}
