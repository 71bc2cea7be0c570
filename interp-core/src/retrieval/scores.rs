//! Scores of heads: of one trial, and of many in the file format of Wu et al.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::Followed;
use crate::error::{Error, Result};

/// What every head scored in one trial.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialScores {
    /// `[layer][head]`: steps that copied, repeats included, per token of the needle. May exceed 1.
    pub counted: Vec<Vec<f64>>,
    /// `[layer][head]`: distinct tokens copied, per distinct token of the needle. At most 1.
    pub as_set: Vec<Vec<f64>>,
}

impl TrialScores {
    /// A step counts for a head that looked at a position of `needle` whose token is the one written.
    pub fn new(prompt: &[i64], needle: &Range<usize>, followed: &Followed) -> Self {
        let shape = followed.looked.first().map_or(&[][..], Vec::as_slice);
        let mut copied: Vec<Vec<Vec<i64>>> = shape.iter().map(|heads| vec![Vec::new(); heads.len()]).collect();
        for (&token, layers) in followed.tokens.iter().zip(&followed.looked) {
            for (heads, copied) in layers.iter().zip(&mut copied) {
                for (&position, copied) in heads.iter().zip(copied) {
                    if needle.contains(&position) && prompt[position] == token {
                        copied.push(token);
                    }
                }
            }
        }
        let distinct = prompt[needle.clone()].iter().collect::<HashSet<_>>().len();
        let map = |score: &dyn Fn(&Vec<i64>) -> f64| -> Vec<Vec<f64>> {
            copied.iter().map(|heads| heads.iter().map(score).collect()).collect()
        };
        Self {
            counted: map(&|copied| copied.len() as f64 / needle.len() as f64),
            as_set: map(&|copied| copied.iter().collect::<HashSet<_>>().len() as f64 / distinct as f64),
        }
    }
}

/// Per head a list of scores, one per trial: the file `{"0-0": […], "0-1": […], …}` of Wu et al., keys `LAYER-HEAD` from 0.
#[derive(Debug, Clone, PartialEq)]
pub struct RetrievalScores {
    n_layers: usize,
    n_heads: usize,
    /// `[layer * head][trial]`.
    lists: Vec<Vec<f64>>,
}

impl RetrievalScores {
    /// No trial yet.
    pub fn new(n_layers: usize, n_heads: usize) -> Self {
        Self { n_layers, n_heads, lists: vec![Vec::new(); n_layers * n_heads] }
    }

    /// Appends a trial, `[layer][head]`.
    pub fn push(&mut self, trial: &[Vec<f64>]) {
        assert_eq!(trial.iter().map(Vec::len).sum::<usize>(), self.lists.len(), "a score per head");
        self.lists.iter_mut().zip(trial.iter().flatten()).for_each(|(list, &score)| list.push(score));
    }

    /// Reads a file. Errs for keys that are no head, heads that are missing, and lists of different lengths.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let map: Map<String, Value> =
            serde_json::from_slice(&bytes).map_err(|source| Error::Json { path: path.into(), line: None, source })?;
        let refuse = |field: &str, problem: String| Error::Field {
            path: path.into(),
            field: field.into(),
            problem,
            hint: Some("the format is {\"LAYER-HEAD\": [score, …], …}, with every head and equally many scores".into()),
        };
        let parse = |key: &str| -> Option<(usize, usize)> {
            let (layer, head) = key.split_once('-')?;
            Some((layer.parse().ok()?, head.parse().ok()?))
        };
        let mut heads = Vec::with_capacity(map.len());
        for (key, list) in &map {
            let head = parse(key).ok_or_else(|| refuse(key, "not a head".into()))?;
            let list: Option<Vec<f64>> =
                list.as_array().and_then(|list| list.iter().map(|score| score.as_f64()).collect());
            heads.push((head, list.ok_or_else(|| refuse(key, "not a list of numbers".into()))?));
        }
        heads.sort_by_key(|(head, _)| *head);
        let Some(((last_layer, _), first)) = heads.last().zip(heads.first()).map(|(last, first)| (last.0, &first.1))
        else {
            return Err(Error::File { path: path.into(), problem: "holds no head".into(), hint: None });
        };
        let (n_layers, n_trials) = (last_layer + 1, first.len());
        let n_heads = heads.iter().map(|((_, head), _)| head + 1).max().unwrap_or(0);
        for (cell, (head, list)) in heads.iter().enumerate() {
            let expected = (cell / n_heads, cell % n_heads);
            if *head != expected {
                return Err(refuse(&format!("{}-{}", expected.0, expected.1), "it is missing".into()));
            }
            if list.len() != n_trials {
                let problem = format!("has {} scores, others have {n_trials}", list.len());
                return Err(refuse(&format!("{}-{}", head.0, head.1), problem));
            }
        }
        if heads.len() != n_layers * n_heads {
            return Err(refuse(&format!("{}-{}", n_layers - 1, n_heads - 1), "it is missing".into()));
        }
        Ok(Self { n_layers, n_heads, lists: heads.into_iter().map(|(_, list)| list).collect() })
    }

    /// Appends another measurement of the same heads; `path` names it in errors.
    pub fn extend(&mut self, other: Self, path: &Path) -> Result<()> {
        if (other.n_layers, other.n_heads) != (self.n_layers, self.n_heads) {
            let [theirs, ours] = [&other, self].map(|one| format!("{} layers of {} heads", one.n_layers, one.n_heads));
            let problem = format!("has {theirs}, the file before it {ours}");
            return Err(Error::File { path: path.into(), problem, hint: Some("give files of one model".into()) });
        }
        self.lists.iter_mut().zip(other.lists).for_each(|(list, more)| list.extend(more));
        Ok(())
    }

    /// The file's text: one line, heads in order.
    pub fn text(&self) -> String {
        let entry = |(cell, list): (usize, &Vec<f64>)| {
            (format!("{}-{}", cell / self.n_heads, cell % self.n_heads), json!(list))
        };
        format!("{}\n", Value::Object(self.lists.iter().enumerate().map(entry).collect()))
    }

    /// Layers, and heads per layer.
    pub fn grid(&self) -> (usize, usize) {
        (self.n_layers, self.n_heads)
    }

    /// Number of trials.
    pub fn n_trials(&self) -> usize {
        self.lists.first().map_or(0, Vec::len)
    }

    /// Mean score per head, `[layer * head]`; NaN without trials.
    pub fn means(&self) -> Vec<f64> {
        self.lists.iter().map(|list| list.iter().sum::<f64>() / list.len() as f64).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two layers of two heads, over a prompt whose needle is at 2..6.
    fn trial() -> (Vec<i64>, Followed) {
        let prompt = vec![5, 6, 11, 12, 11, 13, 7];
        let step = |positions: [usize; 4]| vec![positions[..2].to_vec(), positions[2..].to_vec()];
        let looked = vec![step([2, 0, 4, 2]), step([3, 3, 3, 4]), step([4, 4, 5, 6]), step([5, 5, 5, 6])];
        (prompt, Followed { tokens: vec![11, 12, 11, 13], looked })
    }

    #[test]
    fn a_copy_is_the_token_looked_at_within_the_needle() {
        let (prompt, followed) = trial();
        let scores = TrialScores::new(&prompt, &(2..6), &followed);
        // L0.H0 copies all four; L0.H1 all but the first; L1.H0 looks at 13 while 11 is written; L1.H1 at 11 while 12 is.
        assert_eq!(scores.counted, [[1.0, 0.75], [0.75, 0.25]]);
        // Three distinct tokens, of which L0.H1 copied 12, 11 and 13.
        assert_eq!(scores.as_set, [[1.0, 1.0], [1.0, 1.0 / 3.0]]);
        // A loop that repeats the needle's first token counts beyond 1, but not as a set.
        let again = Followed { tokens: vec![11; 9], looked: vec![vec![vec![2]]; 9] };
        let scores = TrialScores::new(&prompt, &(2..6), &again);
        assert_eq!((scores.counted[0][0], scores.as_set[0][0]), (2.25, 1.0 / 3.0));
        // Outside the needle nothing counts, not even the same token.
        let outside = Followed { tokens: vec![11], looked: vec![vec![vec![0, 2]]] };
        assert_eq!(TrialScores::new(&[11, 5, 11], &(1..3), &outside).counted, [[0.0, 0.5]]);
    }

    #[test]
    fn files_are_read_as_they_are_written() {
        let (prompt, followed) = trial();
        let mut scores = RetrievalScores::new(2, 2);
        assert!(scores.means()[0].is_nan());
        let one = TrialScores::new(&prompt, &(2..6), &followed);
        scores.push(&one.counted);
        scores.push(&one.as_set);
        assert_eq!((scores.n_trials(), scores.means()[1]), (2, 0.875));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        std::fs::write(&path, scores.text()).unwrap();
        assert!(scores.text().starts_with(r#"{"0-0":[1.0,1.0],"0-1":[0.75,1.0],"1-0""#), "{}", scores.text());
        let mut read = RetrievalScores::read(&path).unwrap();
        assert_eq!(read, scores);
        read.extend(scores.clone(), &path).unwrap();
        assert_eq!((read.n_trials(), read.means()), (4, scores.means()));
        let error = read.extend(RetrievalScores::new(1, 2), "b.json".as_ref()).unwrap_err().to_string();
        assert_eq!(error, "b.json: has 1 layers of 2 heads, the file before it 2 layers of 2 heads");
        for (text, problem) in [
            ("{}", "holds no head"),
            (r#"{"x":[1]}"#, "field `x`: not a head"),
            (r#"{"0-0":[1],"0-1":["a"]}"#, "field `0-1`: not a list of numbers"),
            (r#"{"0-0":[1],"1-1":[1]}"#, "field `0-1`: it is missing"),
            (r#"{"0-0":[1],"0-1":[1],"1-0":[1]}"#, "field `1-1`: it is missing"),
            (r#"{"0-0":[1],"0-1":[1,2]}"#, "field `0-1`: has 2 scores, others have 1"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = RetrievalScores::read(&path).unwrap_err().to_string();
            assert!(error.ends_with(problem), "{text}: {error}");
        }
    }
}
