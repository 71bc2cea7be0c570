//! Leakage: studies that stand in more than one part of a split. Rows of one study share their scenario, so a model that saw
//! some of them in training is not tested on the others.

use std::collections::{BTreeMap, BTreeSet};

/// One part of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// What it is called.
    pub name: String,
    /// The study of every row.
    pub studies: Vec<String>,
}

/// Two parts that share studies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// The first part.
    pub one: String,
    /// The second.
    pub other: String,
    /// Studies in both, sorted.
    pub shared: Vec<String>,
    /// Rows of the second part that belong to them.
    pub rows: usize,
}

impl Split {
    /// Different studies.
    pub fn distinct(&self) -> BTreeSet<&str> {
        self.studies.iter().map(String::as_str).collect()
    }
}

/// Every pair of parts that shares a study.
pub fn leaks(splits: &[Split]) -> Vec<Leak> {
    let mut leaks = Vec::new();
    for (i, one) in splits.iter().enumerate() {
        let known = one.distinct();
        for other in &splits[i + 1..] {
            let mut shared: BTreeMap<&str, usize> = BTreeMap::new();
            other.studies.iter().filter(|study| known.contains(study.as_str())).for_each(|study| {
                *shared.entry(study).or_default() += 1;
            });
            if !shared.is_empty() {
                leaks.push(Leak {
                    one: one.name.clone(),
                    other: other.name.clone(),
                    shared: shared.keys().map(|study| (*study).to_owned()).collect(),
                    rows: shared.values().sum(),
                });
            }
        }
    }
    leaks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_studies_are_found_between_every_two_parts() {
        let split = |name: &str, studies: &[&str]| Split {
            name: name.into(),
            studies: studies.iter().map(|study| (*study).to_owned()).collect(),
        };
        let splits = [split("train", &["a", "b", "b"]), split("val", &["c"]), split("test", &["b", "b", "c", "d"])];
        let found = leaks(&splits);
        assert_eq!(
            (found[0].one.as_str(), found[0].shared.as_slice(), found[0].rows),
            ("train", &["b".to_owned()][..], 2)
        );
        assert_eq!((found[1].one.as_str(), found.len()), ("val", 2));
        assert_eq!(leaks(&splits[..2]), []);
    }
}
