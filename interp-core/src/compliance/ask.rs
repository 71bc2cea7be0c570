//! How a case is put to a model: the message and where its sections are, the forced answer, and the
//! trial of a pair.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Value, json};

use super::record::{Gold, Record};

/// Beginning of the reply behind which the two words are compared.
pub const FORCED: &str = "FINAL ANSWER:";

/// The two words as they follow [`FORCED`], the compliant one first.
pub fn words() -> [String; 2] {
    Gold::ALL.map(|gold| format!(" {}", gold.word()))
}

/// The sections of [`Record::content`] without their headers, by name, as characters of it.
pub fn sections(record: &Record) -> [(&'static str, Range<usize>); 3] {
    let mut at = 0;
    [
        ("procedure", "Procedure: ", &record.procedure),
        ("scenario", "\n\nScenario: ", &record.scenario),
        ("question", "\n\nQuestion: ", &record.question),
    ]
    .map(|(name, header, text)| {
        let start = at + header.chars().count();
        at = start + text.chars().count();
        (name, start..at)
    })
}

/// The forced prompt of a case as trial files have it. `rendered` is its message in the chat template, prefix included: the sections are
/// named as spans of it, unless the template changed the message.
pub fn prompt(record: &Record, rendered: &str) -> Value {
    let content = record.content();
    let mut prompt = json!({ "messages": [{ "role": "user", "content": content }], "prefix": FORCED });
    if let Some(byte) = rendered.find(&content) {
        let before = rendered[..byte].chars().count();
        let span = |(name, range): (&str, Range<usize>)| {
            (name.to_owned(), json!({ "chars": [[before + range.start, before + range.end]] }))
        };
        prompt["spans"] = sections(record).map(span).into_iter().collect::<serde_json::Map<_, _>>().into();
    }
    prompt
}

/// A trial of procedural causal mediation: `base` is edited, `source` donates, and the two words change places between them. `tokens`
/// are the first of each of [`words`], as ids or texts. Without a source the prompt stands alone.
pub fn trial<T: Into<Value> + Copy>(base: (&Record, &str), source: Option<(&Record, &str)>, tokens: [T; 2]) -> Value {
    let token = |gold: Gold| -> Value { tokens[usize::from(gold == Gold::NonCompliant)].into() };
    let record = base.0;
    let mut line = json!({
        "id": record.id,
        "cluster": record.process_id,
        "direction": record.gold.word(),
        "base": prompt(record, base.1),
        "target": { "correct": token(record.gold), "incorrect": token(record.gold.other()) },
    });
    if let Some((other, rendered)) = source {
        line["id"] = json!(format!("{}<{}", record.id, other.id));
        line["source"] = prompt(other, rendered);
        line["source"]["answer"] = token(other.gold);
    }
    line
}

/// `n` of `items` at most, as evenly over groups as can be: the first of every group, then the second of every group, and so on, in
/// the order of `items`.
pub fn spread<T>(items: Vec<T>, n: usize, group: impl Fn(&T) -> String) -> Vec<T> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut ranked: Vec<(usize, usize, T)> = Vec::with_capacity(items.len());
    for (place, item) in items.into_iter().enumerate() {
        let count = counts.entry(group(&item)).or_default();
        ranked.push((*count, place, item));
        *count += 1;
    }
    ranked.sort_by_key(|(rank, place, _)| (*rank, *place));
    ranked.truncate(n);
    ranked.sort_by_key(|(_, place, _)| *place);
    ranked.into_iter().map(|(_, _, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use super::super::record::{Meta, Perturbation};
    use super::*;

    fn record(id: &str, process: &str, domain: &str, gold: Gold) -> Record {
        Record {
            id: id.into(),
            process_id: process.into(),
            cohort: "fresh".into(),
            source: "test".into(),
            domain: domain.into(),
            perturbation: Perturbation::BaselineCompliant,
            parent_id: None,
            procedure: format!("rules of {id} – é"),
            scenario: "Ana wäscht".into(),
            question: "Kept?".into(),
            gold,
            admit: true,
            meta: Meta::default(),
        }
    }

    #[test]
    fn sections_are_characters_of_the_content() {
        let record = record("a", "p", "d", Gold::Compliant);
        let content: Vec<char> = record.content().chars().collect();
        let text = |range: Range<usize>| content[range].iter().collect::<String>();
        let found = sections(&record).map(|(name, range)| (name, text(range)));
        let expected = [
            ("procedure", record.procedure.clone()),
            ("scenario", record.scenario.clone()),
            ("question", record.question.clone()),
        ];
        assert_eq!(found, expected);
        let rendered = format!("<ü>{}</ü>{FORCED}", record.content());
        assert_eq!(prompt(&record, &rendered)["spans"]["procedure"], json!({ "chars": [[3 + 11, 3 + 11 + 14]] }));
        assert!(prompt(&record, "another text").get("spans").is_none());
    }

    #[test]
    fn a_pair_is_a_trial_each_way() {
        let (a, b) = (record("a", "p", "d", Gold::Compliant), record("b", "p", "d", Gold::NonCompliant));
        let one = trial((&a, ""), Some((&b, "")), [7, 9]);
        assert_eq!((&one["id"], &one["cluster"], &one["direction"]), (&json!("a<b"), &json!("p"), &json!("compliant")));
        assert_eq!(one["target"], json!({ "correct": 7, "incorrect": 9 }));
        assert_eq!(one["source"]["answer"], 9);
        let other = trial((&b, ""), Some((&a, "")), [7, 9]);
        assert_eq!((&other["target"]["correct"], &other["source"]["answer"]), (&json!(9), &json!(7)));
        let alone = trial((&a, ""), None, [7, 9]);
        assert!(alone.get("source").is_none() && alone["id"] == "a");
    }

    #[test]
    fn a_part_takes_from_every_group() {
        let items = vec!["a1", "a2", "a3", "b1", "c1", "c2"];
        let group = |item: &&str| item[..1].to_owned();
        assert_eq!(spread(items.clone(), 3, group), ["a1", "b1", "c1"]);
        assert_eq!(spread(items.clone(), 4, group), ["a1", "a2", "b1", "c1"]);
        assert_eq!(spread(items.clone(), 9, group), items);
    }
}
