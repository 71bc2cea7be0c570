//! V2, facts: which share of the ground truth's facts does a text contain?

use super::GroundTruth;
use super::text::key_terms;

/// Key terms of a fact that are looked for, and words that are none.
const TERMS: usize = 5;
const STOP: [&str; 33] = [
    "also", "been", "both", "could", "does", "each", "every", "from", "have", "into", "just", "might", "more", "most",
    "only", "other", "same", "should", "some", "such", "than", "that", "then", "this", "very", "were", "what", "when",
    "where", "which", "will", "with", "would",
];

/// Matched facts over all facts, 0 to 1; `None` where the ground truth states none.
pub fn facts(text: &str, truth: &GroundTruth) -> Option<f64> {
    let facts = truth.facts();
    let lower = text.to_lowercase();
    let matched = facts.iter().filter(|fact| matches(fact, &lower)).count();
    (!facts.is_empty()).then(|| matched as f64 / facts.len() as f64)
}

/// Word for word, or by half of the first key terms, rounded down, but at least one.
fn matches(fact: &str, lower: &str) -> bool {
    if lower.contains(&fact.to_lowercase()) {
        return true;
    }
    let mut terms = key_terms(fact, &STOP);
    terms.truncate(TERMS);
    let found = terms.iter().filter(|term| lower.contains(&term.to_lowercase())).count();
    !terms.is_empty() && found >= (terms.len() / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_match_by_their_words_or_half_of_their_terms() {
        let truth = GroundTruth {
            key_facts: ["NES of 1.2", "mitochondrial stress response genes", "it is up"].map(String::from).to_vec(),
            expected_answer: Some("it is up".into()),
            ..GroundTruth::default()
        };
        assert_eq!(truth.facts().len(), 3, "one is there twice");
        assert_eq!(facts("the NES OF 1.2 is large", &truth), Some(1.0 / 3.0));
        assert_eq!(facts("stress on mitochondrial DNA", &truth), Some(1.0 / 3.0));
        assert_eq!(facts("stress alone", &truth), Some(0.0), "one of four terms is under half");
        assert_eq!(facts("anything", &GroundTruth::default()), None);
    }
}
