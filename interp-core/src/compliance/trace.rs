//! The reasoning that leads from a scenario to its label, written by the rule checker: what was told, each rule, the verdict.

use super::narrate::{Sentence, Setting};
use super::record::Gold;
use super::rules::{Violation, What};
use super::scaffold::{Scaffold, Signal, Step};

/// Steps of reasoning; the last one is the answer.
pub fn trace(setting: &Setting<'_>, sentences: &[Sentence], gold: Gold) -> Scaffold {
    let told = sentences.iter().map(|sentence| told(setting, sentence));
    let violations = setting.violations(sentences);
    let rules = (0..setting.process.steps.len()).map(|step| rule(setting, sentences, &violations, step));
    let broken = match violations.len() {
        0 => "No rule is broken.".to_owned(),
        1 => "One rule is broken.".to_owned(),
        n => format!("{n} rules are broken."),
    };
    let end = [(Signal::Conclusion, broken), (Signal::Response, format!("FINAL ANSWER: {gold}"))];
    let mut steps: Vec<Step> = Vec::new();
    for (signal, text) in told.chain(rules).chain(end) {
        match steps.last_mut() {
            // What one signal announces is one step of reasoning.
            Some(step) if step.signal == signal => step.text += &format!(" {text}"),
            _ => steps.push(Step { signal, text }),
        }
    }
    Scaffold { before: String::new(), steps }
}

/// What a sentence says: step and actor.
fn told(setting: &Setting<'_>, sentence: &Sentence) -> (Signal, String) {
    let event = &sentence.event;
    let actor = || setting.binding.actor(&event.role);
    match &event.what {
        What::Step(step) if event.other_words.is_some() => {
            (Signal::Addition, format!("{} by the {} to another thing.", step + 1, actor()))
        }
        What::Step(step) => (Signal::Addition, format!("{} by the {}.", step + 1, actor())),
        What::Instead(exception) => {
            (Signal::Addition, format!("instead of {} by the {}.", replaced(setting, *exception), actor()))
        }
        What::Fact(exception) => (Signal::Contrast, format!("{} is replaced.", replaced(setting, *exception))),
        What::Aside(_) => (Signal::Example, "no step.".into()),
    }
}

/// How one rule stands.
fn rule(setting: &Setting<'_>, sentences: &[Sentence], violations: &[Violation], step: usize) -> (Signal, String) {
    let process = setting.process;
    let of_step = |violation: &&Violation| match violation {
        Violation::Missing(i) | Violation::Actor(i) | Violation::Authority(i) | Violation::Object(i) => *i == step,
        Violation::Order(_, later) => *later == step,
        Violation::Needs(needed, _) => *needed == step,
        Violation::Exception(exception) => process.step(&process.exceptions[*exception].instead_of) == Some(step),
    };
    let fact = |exception: usize| sentences.iter().any(|sentence| sentence.event.what == What::Fact(exception));
    let is_replaced =
        (0..process.exceptions.len()).any(|i| fact(i) && process.step(&process.exceptions[i].instead_of) == Some(step));
    let found = match violations.iter().find(of_step) {
        Some(Violation::Missing(_)) => "missing".into(),
        Some(Violation::Actor(_)) => "wrong actor".into(),
        Some(Violation::Authority(_)) => "rank too low".into(),
        Some(Violation::Object(_)) => "wrong thing".into(),
        Some(Violation::Order(earlier, _)) => format!("before {}", earlier + 1),
        Some(Violation::Needs(_, later)) => format!("missing but {} was done", later + 1),
        Some(Violation::Exception(_)) => "should be replaced".into(),
        None if is_replaced => "replaced".into(),
        None if setting.at(sentences, step).is_none() => "not needed".into(),
        None => "good".into(),
    };
    (Signal::Reasoning, format!("{} {found}.", step + 1))
}

/// The number of the step that an exception replaces.
fn replaced(setting: &Setting<'_>, exception: usize) -> usize {
    setting.process.step(&setting.process.exceptions[exception].instead_of).map_or(0, |step| step + 1)
}
