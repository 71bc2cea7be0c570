//! A case to judge: a procedure, a scenario and a question, with the label that is right; and pairs of such cases.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Whether a scenario keeps its procedure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Gold {
    /// Every obligation is met.
    #[serde(rename = "compliant")]
    Compliant,
    /// At least one is not.
    #[serde(rename = "non-compliant")]
    NonCompliant,
}

/// How a case was made from its process. Never what it is labelled: that is [`Record::gold`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Perturbation {
    /// All required steps in a valid order.
    BaselineCompliant,
    /// One plain violation of a step that can be seen.
    BaselineNoncompliant,
    /// Reworded; same events in the same order.
    LexicalParaphrase,
    /// Two events that are joined by a precedence edge change places.
    StepReorderInvalid,
    /// What a later step needs is left out.
    PrerequisiteOmission,
    /// An act by somebody of too low an authority.
    HierarchyViolation,
    /// Facts that fire an exception, honoured or not.
    ExceptionTrigger,
    /// Sentences that touch no step.
    DistractorInjection,
    /// Compliant, and full of words that sound like a violation.
    AdversarialSurfaceCompliant,
    /// Not compliant, and full of words that sound compliant.
    AdversarialSurfaceNoncompliant,
}

/// What an edit did to the case that it was made from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// Steps that the edit touched, by id.
    pub edited_steps: Vec<String>,
    /// The edge that is broken or crossed, earlier step first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edge: Option<(String, String)>,
    /// Whether `gold` is another than the parent's.
    pub flips_gold: bool,
    /// Seed of the case.
    pub seed: u64,
}

/// One line of a corpus. `procedure`, `scenario` and `question` are without their headers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Of its own in the whole corpus.
    pub id: String,
    /// The process it is about; what intervals resample.
    pub process_id: String,
    /// The part of the corpus it belongs to.
    pub cohort: String,
    /// Where the process comes from.
    pub source: String,
    /// Field of work.
    pub domain: String,
    /// How it was made.
    pub perturbation: Perturbation,
    /// The case it was made from.
    #[serde(default)]
    pub parent_id: Option<String>,
    /// The rules.
    pub procedure: String,
    /// What was done.
    pub scenario: String,
    /// What is asked.
    pub question: String,
    /// The right label.
    pub gold: Gold,
    /// Whether its acceptance test was passed.
    #[serde(default = "yes")]
    pub admit: bool,
    /// What was edited.
    #[serde(default)]
    pub meta: Meta,
}

/// Two cases of one procedure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// What they show together.
    pub kind: PairKind,
    /// Id of the first case: the one that the second was made from.
    pub a: String,
    /// Id of the second.
    pub b: String,
}

/// What a pair shows. Whether a `swap` flips is read from the two labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PairKind {
    /// The two have opposite labels.
    Flip,
    /// The two have one label.
    Anchor,
    /// Two events of the narration have changed places, and nothing else has.
    Swap,
}

fn yes() -> bool {
    true
}

impl Gold {
    /// Both, the compliant one first.
    pub const ALL: [Gold; 2] = [Gold::Compliant, Gold::NonCompliant];

    /// The word, as it stands in records and in answers.
    pub fn word(self) -> &'static str {
        match self {
            Gold::Compliant => "compliant",
            Gold::NonCompliant => "non-compliant",
        }
    }

    /// The other one.
    pub fn other(self) -> Gold {
        match self {
            Gold::Compliant => Gold::NonCompliant,
            Gold::NonCompliant => Gold::Compliant,
        }
    }
}

impl fmt::Display for Gold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl Perturbation {
    /// All ten, in the order of tables.
    pub const ALL: [Perturbation; 10] = [
        Perturbation::BaselineCompliant,
        Perturbation::BaselineNoncompliant,
        Perturbation::LexicalParaphrase,
        Perturbation::StepReorderInvalid,
        Perturbation::PrerequisiteOmission,
        Perturbation::HierarchyViolation,
        Perturbation::ExceptionTrigger,
        Perturbation::DistractorInjection,
        Perturbation::AdversarialSurfaceCompliant,
        Perturbation::AdversarialSurfaceNoncompliant,
    ];

    /// The name, as it stands in records.
    pub fn name(self) -> &'static str {
        match self {
            Perturbation::BaselineCompliant => "baseline_compliant",
            Perturbation::BaselineNoncompliant => "baseline_noncompliant",
            Perturbation::LexicalParaphrase => "lexical_paraphrase",
            Perturbation::StepReorderInvalid => "step_reorder_invalid",
            Perturbation::PrerequisiteOmission => "prerequisite_omission",
            Perturbation::HierarchyViolation => "hierarchy_violation",
            Perturbation::ExceptionTrigger => "exception_trigger",
            Perturbation::DistractorInjection => "distractor_injection",
            Perturbation::AdversarialSurfaceCompliant => "adversarial_surface_compliant",
            Perturbation::AdversarialSurfaceNoncompliant => "adversarial_surface_noncompliant",
        }
    }
}

impl fmt::Display for Perturbation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Perturbation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|one| one.name() == text).ok_or_else(|| Error::Selector {
            what: "perturbation",
            value: text.into(),
            problem: "no such perturbation".into(),
            hint: Some(format!("they are {}", Self::ALL.map(Perturbation::name).join(", "))),
        })
    }
}

impl Record {
    /// The user's message, as the cards of the published checkpoints have it.
    pub fn content(&self) -> String {
        format!("Procedure: {}\n\nScenario: {}\n\nQuestion: {}", self.procedure, self.scenario, self.question)
    }
}
