//! Processes and events in words: the procedure's lines, and every sentence that can say an event.

use std::collections::HashMap;

use super::process::{Binding, Process};
use super::rules::{Event, What};

/// How a sentence says an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wording {
    /// `The technician labelled the drum.`
    Plain,
    /// `The drum was labelled by the technician.`
    Passive,
    /// The n-th of its other wordings.
    Reworded(usize),
}

/// The procedure under a choice of words: title, numbered steps, exceptions, ranks.
pub fn procedure(process: &Process, binding: &Binding) -> String {
    let number = |id: &str| process.step(id).map_or(0, |step| step + 1);
    let list = |ids: &[String]| ids.iter().map(|id| number(id).to_string()).collect::<Vec<_>>().join(" and ");
    let mut lines = vec![format!("{}.", capital(&binding.fill(&process.title)))];
    for (i, step) in process.steps.iter().enumerate() {
        let who = format!("the {}", binding.actor(&step.role));
        let who = if step.authority { format!("{who} or above") } else { who };
        let who = if step.optional { format!("optionally, {who}") } else { capital(&who) };
        let mut line = format!("{}. {} {}", i + 1, capital(&who), binding.fill(&step.does));
        if !step.after.is_empty() {
            line += &format!(", after {}", list(&step.after));
        }
        if !step.needs.is_empty() {
            line += &format!(", only if {} was done before", list(&step.needs));
        }
        lines.push(line + ".");
    }
    for exception in &process.exceptions {
        let (condition, does) = (binding.fill(&exception.condition), binding.fill(&exception.does));
        let (who, number) = (binding.actor(&exception.role), number(&exception.instead_of));
        lines.push(format!("If {condition}, the {who} {does} instead of {number}."));
    }
    if process.steps.iter().any(|step| step.authority) {
        let ranks: Vec<&str> = process.ranks.iter().map(|role| binding.actor(role)).collect();
        lines.push(format!("Ranks from low to high: {}.", ranks.join(", ")));
    }
    lines.join("\n")
}

/// The sentence that says `event`, capital and full stop included.
pub fn sentence(process: &Process, binding: &Binding, event: &Event, wording: Wording) -> String {
    let words = event.other_words.as_ref().unwrap_or(binding);
    let (did, was, reworded) = match &event.what {
        What::Aside(text) => return text.clone(),
        What::Fact(exception) => return capital(&binding.fill(&process.exceptions[*exception].fact)) + ".",
        What::Step(step) => {
            let step = &process.steps[*step];
            (&step.did, &step.was, &step.reworded)
        }
        What::Instead(exception) => {
            let exception = &process.exceptions[*exception];
            (&exception.did, &exception.was, &exception.reworded)
        }
    };
    let actor = binding.actor(&event.role);
    match wording {
        Wording::Plain => format!("The {actor} {}.", words.fill(did)),
        Wording::Passive => format!("{} by the {actor}.", capital(&words.fill(was))),
        Wording::Reworded(n) => format!("The {actor} {}.", words.fill(&reworded[n % reworded.len()])),
    }
}

/// Every sentence of a process under a choice of words, with what it says: the other way round than [`sentence`]. The
/// scenario's own words are all it knows, so that labels can be checked against texts alone.
pub fn readings(process: &Process, binding: &Binding) -> HashMap<String, Event> {
    let mut all = HashMap::new();
    let others: Vec<Binding> = process.bindings().into_iter().filter(|one| one.roles == binding.roles).collect();
    let acts = (0..process.steps.len()).map(What::Step).chain((0..process.exceptions.len()).map(What::Instead));
    for what in acts {
        let n_reworded = match &what {
            What::Step(step) => process.steps[*step].reworded.len(),
            What::Instead(exception) => process.exceptions[*exception].reworded.len(),
            _ => 0,
        };
        for role in &process.ranks {
            for words in &others {
                let other_words = (words != binding).then(|| words.clone());
                let event = Event { what: what.clone(), role: role.clone(), other_words };
                let wordings =
                    [Wording::Plain, Wording::Passive].into_iter().chain((0..n_reworded).map(Wording::Reworded));
                for wording in wordings {
                    let text = sentence(process, binding, &event, wording);
                    // A sentence without a slot reads the same under every filling: that of the procedure.
                    if event.other_words.is_none() || !all.contains_key(&text) {
                        all.insert(text, event.clone());
                    }
                }
            }
        }
    }
    for exception in 0..process.exceptions.len() {
        let event = Event { what: What::Fact(exception), role: String::new(), other_words: None };
        all.insert(sentence(process, binding, &event, Wording::Plain), event);
    }
    all
}

/// With its first letter a capital.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// With its first letter small, as it stands behind a prefix.
pub fn small(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
