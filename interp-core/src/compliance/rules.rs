//! The rule checker: from a process and what was done to what was violated. It decides every label.

use super::process::{Binding, Process};

/// One sentence of a scenario, as what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub what: What,
    /// The role that acted; empty for facts and asides.
    pub role: String,
    /// Words that fill the slots, where other than in the procedure.
    pub other_words: Option<Binding>,
}

/// What an event is to the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A step, by index.
    Step(usize),
    /// The act that an exception asks for, by the exception's index.
    Instead(usize),
    /// The fact that fires an exception.
    Fact(usize),
    /// A sentence that touches no step, by its text.
    Aside(String),
}

/// One broken rule. Steps and exceptions by index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// A required step was not done.
    Missing(usize),
    /// A step was done by a role that may not.
    Actor(usize),
    /// A step that asks for authority was done by a lower rank.
    Authority(usize),
    /// A step was done to another thing than the procedure names.
    Object(usize),
    /// A step was done before one that it comes after: `(earlier, later)` as the procedure has them.
    Order(usize, usize),
    /// A step was done without what it needs: `(needed, done)`.
    Needs(usize, usize),
    /// An exception was fired and not honoured.
    Exception(usize),
}

/// Everything that `events` violate, in the order of the procedure. One cause is one violation: a step that is left out
/// although another needs it is one `Needs`.
pub fn violations(process: &Process, events: &[Event]) -> Vec<Violation> {
    let done = |step: usize| events.iter().position(|event| event.what == What::Step(step));
    let fired: Vec<(usize, usize)> = (0..process.exceptions.len())
        .filter_map(|exception| {
            let at = events.iter().position(|event| event.what == What::Fact(exception))?;
            let replaced = process.step(&process.exceptions[exception].instead_of)?;
            // What was done before the fact had been done by the rules.
            done(replaced).is_none_or(|done| done > at).then_some((exception, replaced))
        })
        .collect();
    let replaced = |step: usize| fired.iter().any(|&(_, replaced)| replaced == step);

    let mut found = Vec::new();
    for (i, step) in process.steps.iter().enumerate() {
        if replaced(i) {
            continue;
        }
        let Some(at) = done(i) else {
            let needed = |later: &usize| process.steps[*later].needs.contains(&step.id) && done(*later).is_some();
            match (0..process.steps.len()).find(needed) {
                Some(later) => found.push(Violation::Needs(i, later)),
                None if !step.optional => found.push(Violation::Missing(i)),
                None => {}
            }
            continue;
        };
        found.extend(wrongly(process, i, &events[at]));
        for (earlier, _) in process.edges().into_iter().filter(|&(_, later)| later == i) {
            if !replaced(earlier) && done(earlier).is_some_and(|earlier| earlier > at) {
                found.push(Violation::Order(earlier, i));
            }
        }
    }
    for (exception, replaced) in fired {
        let allowed = &process.exceptions[exception].role;
        let honoured = events.iter().any(|event| event.what == What::Instead(exception) && event.role == *allowed);
        if !honoured || done(replaced).is_some() {
            found.push(Violation::Exception(exception));
        }
    }
    found
}

/// What is wrong with how a step was done.
fn wrongly(process: &Process, step: usize, event: &Event) -> Option<Violation> {
    let rule = &process.steps[step];
    if event.other_words.is_some() {
        return Some(Violation::Object(step));
    }
    match process.rank(&event.role).cmp(&process.rank(&rule.role)) {
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater if rule.authority => None,
        std::cmp::Ordering::Less if rule.authority => Some(Violation::Authority(step)),
        _ => Some(Violation::Actor(step)),
    }
}
