//! V3, consistency across contexts: does an answer cover the tissues or contexts asked about, and hedge where it should?

use super::GroundTruth;
use super::text::{has_any, key_terms};

const SAME: [&str; 10] = [
    "common response",
    "concordant",
    "conserved",
    "consistent",
    "reproducible",
    "same direction",
    "shared",
    "similar across",
    "uniform",
    "universal",
];
const SPECIFIC: [&str; 12] = [
    "context-dependent",
    "different",
    "differs",
    "discordant",
    "distinct",
    "divergent",
    "heterogeneous",
    "opposite",
    "tissue-dependent",
    "tissue-specific",
    "unique to",
    "varies",
];
const NUANCE: [&str; 11] = [
    "context",
    "depends",
    "differs",
    "heterogeneous",
    "inconsistent",
    "mission-specific",
    "mixed",
    "not consistent",
    "some missions",
    "variable",
    "varies",
];
const HEDGING: [&str; 11] = [
    "cannot be determined",
    "caution",
    "conflicting",
    "difficult to generalize",
    "limited data",
    "more research",
    "not enough evidence",
    "preliminary",
    "tentative",
    "uncertain",
    "unclear",
];
/// Words that are no key terms.
const STOP: [&str; 14] = [
    "been", "between", "could", "does", "from", "have", "might", "should", "that", "this", "were", "will", "with",
    "would",
];

/// The score of V3, 0 to 1; `None` for questions it does not speak about. All tests are for plain substrings.
pub fn consistency(text: &str, truth: &GroundTruth, question_type: &str) -> Option<f64> {
    let lower = text.to_lowercase();
    match (question_type, &truth.contexts, &truth.tissue_directions) {
        ("comparison", ..) => Some(comparison(&lower, truth)),
        ("context_dependent" | "uncertainty", ..) => Some(hedged(&lower)),
        (_, Some(_), _) => contexts(&lower, truth),
        (_, None, Some(_)) => Some(comparison(&lower, truth)),
        _ => None,
    }
}

/// Half for the tissues mentioned, half for calling them alike or not as the ground truth does.
fn comparison(lower: &str, truth: &GroundTruth) -> f64 {
    let tissues = truth.tissue_directions.as_deref().unwrap_or_default();
    let mentioned = tissues.iter().filter(|(tissue, _)| lower.contains(&tissue.to_lowercase())).count();
    let right = if truth.is_consistent { has_any(lower, &SAME) } else { has_any(lower, &SPECIFIC) };
    0.5 * (mentioned as f64 / tissues.len().max(1) as f64) + 0.5 * f64::from(u8::from(right))
}

/// Two phrases of either kind are as good as more.
fn hedged(lower: &str) -> f64 {
    let part =
        |phrases: &[&str]| (phrases.iter().filter(|phrase| lower.contains(**phrase)).count() as f64 / 2.0).min(1.0);
    (0.6 * part(&NUANCE) + 0.4 * part(&HEDGING)).min(1.0)
}

/// Key terms of all contexts, terms of what sets them apart, and roles.
fn contexts(lower: &str, truth: &GroundTruth) -> Option<f64> {
    let contexts = truth.contexts.as_deref().filter(|contexts| !contexts.is_empty())?;
    let has = |term: &str| lower.contains(&term.to_lowercase());
    let share = |found: usize, of: usize| if of == 0 { 0.0 } else { found as f64 / of as f64 };
    let terms: Vec<&String> = contexts.iter().flat_map(|context| &context.key_terms).collect();
    let known = share(terms.iter().filter(|term| has(term)).count(), terms.len());
    let apart = key_terms(truth.distinction_key.as_deref().unwrap_or_default(), &STOP);
    let distinct = share(apart.iter().filter(|term| has(term)).count(), apart.len());
    let roles: Vec<&str> = contexts.iter().map(|context| context.role.as_str()).filter(|r| !r.is_empty()).collect();
    let told = roles.iter().filter(|role| key_terms(role, &STOP).into_iter().any(has)).count();
    Some(0.40 * known + 0.35 * distinct + 0.25 * share(told, roles.len()))
}

#[cfg(test)]
mod tests {
    use super::super::truth::BioContext;
    use super::*;

    #[test]
    fn each_kind_of_question_has_its_own_score() {
        let tissues = vec![("liver".into(), "UP".into()), ("eye".into(), "DOWN".into())];
        let truth = GroundTruth { tissue_directions: Some(tissues), ..GroundTruth::default() };
        let text = "In liver it is conserved; elsewhere the direction is opposite.";
        assert_eq!(consistency(text, &truth, "comparison"), Some(0.75));
        assert_eq!(consistency("Conserved.", &truth, "direction"), Some(0.0));
        assert_eq!(consistency(text, &GroundTruth::default(), "direction"), None);
        assert_eq!(consistency("It depends, results are mixed and unclear.", &truth, "uncertainty"), Some(0.8));
        let context = |terms: &[&str], role: &str| BioContext {
            key_terms: terms.iter().map(|term| (*term).to_owned()).collect(),
            role: role.into(),
        };
        let truth = GroundTruth {
            contexts: Some(vec![context(&["muscle", "atrophy"], "breaks down protein"), context(&[], "")]),
            distinction_key: Some("protein turnover between tissues".into()),
            ..GroundTruth::default()
        };
        let score = consistency("Muscle loses protein.", &truth, "other").unwrap();
        assert!((score - (0.4 * 0.5 + 0.35 / 3.0 + 0.25)).abs() < 1e-15, "{score}");
    }
}
