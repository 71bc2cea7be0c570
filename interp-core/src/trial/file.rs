//! A trial file read line by line: good lines become trials, bad ones are kept by number. Knows no JSON keys.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::Trial;
use super::line::{Checked, check};
use crate::error::{Error, Result};
use crate::prompt::PromptReader;

/// Lines held in memory as text at a time.
const BATCH: usize = 2048;

/// Fewer are not worth a thread.
const MIN_LINES_PER_THREAD: usize = 32;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How trials are made of lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrialOptions {
    /// Take the first token of a target of several, and note it, instead of refusing the line.
    pub first_token: bool,
    /// Run each trial also the other way round, with `~swap` after its id and direction.
    pub swap: bool,
}

/// What a trial file holds.
#[derive(Debug)]
pub struct TrialFile {
    /// Trials of the good lines, in file order; a swapped trial follows its original.
    pub trials: Vec<Trial>,
    /// Lines that give no trial. The others can still run.
    pub bad_lines: Vec<BadLine>,
    /// What was decided on the user's behalf.
    pub notes: Vec<Note>,
    /// SHA-256 of the file's bytes, in hex.
    pub sha256: String,
}

/// A line that gives no trial.
#[derive(Debug)]
pub struct BadLine {
    /// 1-based.
    pub line: usize,
    /// What is wrong with it; names file and line.
    pub error: Error,
}

/// A decision about one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// 1-based.
    pub line: usize,
    /// One sentence.
    pub text: String,
}

impl TrialFile {
    /// Reads and checks every line. Errs only if the file cannot be read or holds no line at all.
    pub fn read(path: &Path, prompts: &PromptReader<'_>, options: TrialOptions) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("read", path))?;
        let mut lines = Lines { path, file: BufReader::new(file), number: 0, hash: Sha256::new() };
        let mut out = Self { trials: Vec::new(), bad_lines: Vec::new(), notes: Vec::new(), sha256: String::new() };
        let mut seen: HashMap<String, usize> = HashMap::new();
        loop {
            let batch = lines.batch()?;
            if batch.is_empty() {
                break;
            }
            for (line, checked) in check_batch(&batch, prompts, options) {
                match checked.and_then(|checked| claim_ids(checked, &mut seen, line)) {
                    Ok(Checked { trials, notes }) => {
                        out.trials.extend(trials);
                        out.notes.extend(notes.into_iter().map(|text| Note { line: line.number, text }));
                    }
                    Err(error) => out.bad_lines.push(BadLine { line: line.number, error }),
                }
            }
        }
        if out.trials.is_empty() && out.bad_lines.is_empty() {
            return Err(Error::File {
                path: path.into(),
                problem: "the trial file is empty".into(),
                hint: Some("write one JSON object per line: {\"base\": …, \"target\": …}".into()),
            });
        }
        out.sha256 = lines.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(out)
    }
}

/// A line that is not blank, without its end.
struct RawLine {
    number: usize,
    place: String,
    bytes: Vec<u8>,
}

/// Walks through the file, hashing what it reads.
struct Lines<'a> {
    path: &'a Path,
    file: BufReader<File>,
    number: usize,
    hash: Sha256,
}

impl Lines<'_> {
    /// The next lines, up to [`BATCH`] of them; none at the end of the file.
    fn batch(&mut self) -> Result<Vec<RawLine>> {
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            let mut bytes = Vec::new();
            if self.file.read_until(b'\n', &mut bytes).map_err(Error::io("read", self.path))? == 0 {
                break;
            }
            self.hash.update(&bytes);
            self.number += 1;
            if self.number == 1 && bytes.starts_with(BYTE_ORDER_MARK) {
                bytes.drain(..BYTE_ORDER_MARK.len());
            }
            bytes.truncate(bytes.trim_ascii_end().len());
            if !bytes.is_empty() {
                batch.push(RawLine {
                    number: self.number,
                    place: format!("{}:{}", self.path.display(), self.number),
                    bytes,
                });
            }
        }
        Ok(batch)
    }
}

/// Checks lines side by side, since tokenising takes nearly all the time; results are in file order.
fn check_batch<'a>(
    batch: &'a [RawLine],
    prompts: &PromptReader<'_>,
    options: TrialOptions,
) -> impl Iterator<Item = (&'a RawLine, Result<Checked>)> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let per_thread = batch.len().div_ceil(threads).max(MIN_LINES_PER_THREAD);
    let check = |line: &RawLine| check(&line.bytes, line.number, &line.place, prompts, options);
    let checked: Vec<Vec<Result<Checked>>> = std::thread::scope(|scope| {
        let workers: Vec<_> =
            batch.chunks(per_thread).map(|lines| scope.spawn(move || lines.iter().map(check).collect())).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    batch.iter().zip(checked.into_iter().flatten())
}

/// Takes the ids of a line's trials, all or none.
fn claim_ids(checked: Checked, seen: &mut HashMap<String, usize>, line: &RawLine) -> Result<Checked> {
    for Trial { id, .. } in &checked.trials {
        if let Some(first) = seen.get(id) {
            return Err(Error::Prompt {
                place: line.place.clone(),
                problem: format!("the id `{id}` is taken by line {first}"),
                hint: Some("ids name rows of the results and must differ".into()),
            });
        }
    }
    seen.extend(checked.trials.iter().map(|trial| (trial.id.clone(), line.number)));
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::super::Target;
    use super::*;
    use crate::prompt::{Tokenizer, testing};

    const GOOD: &str = r#"{"base":{"tokens":[1]},"target":{"correct":2}}"#;

    fn read_bytes(bytes: &[u8], tokenizer: Option<&Tokenizer>, options: TrialOptions) -> Result<TrialFile> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.jsonl");
        std::fs::write(&path, bytes).unwrap();
        let d_vocab = tokenizer.map_or(300, Tokenizer::vocab_size);
        let mut file = TrialFile::read(&path, &PromptReader { tokenizer, d_vocab, n_ctx: 16 }, options)?;
        for bad in &mut file.bad_lines {
            // The folder's name is random.
            if let Error::Prompt { place, .. } = &mut bad.error {
                *place = place.replace(&format!("{}/", folder.path().display()), "");
            }
        }
        Ok(file)
    }

    fn problems(text: &str, options: TrialOptions) -> Vec<String> {
        let tokenizer = testing::byte_level();
        let file = read_bytes(text.as_bytes(), Some(&tokenizer), options).unwrap();
        file.bad_lines.iter().map(|bad| bad.error.to_string()).collect()
    }

    fn problem(line: &str) -> String {
        problems(line, TrialOptions::default()).concat()
    }

    #[test]
    fn good_lines_run_and_bad_ones_are_numbered() {
        let text = format!(
            "\u{feff}{GOOD}\r\n\n  \t\n{{\"base\": oops\r\n{{\"id\":\"x\",\"cluster\":\"c\",\"direction\":\"d\",{}\n[1]\n\"base\"\n{GOOD}",
            &GOOD[1..]
        );
        let mut bytes = text.into_bytes();
        bytes.extend(b"\n{\"id\":\"\xff\"}");
        let file = read_bytes(&bytes, None, TrialOptions::default()).unwrap();
        assert_eq!(file.trials.iter().map(|trial| &trial.id[..]).collect::<Vec<_>>(), ["line-1", "x", "line-8"]);
        assert_eq!((file.trials[1].cluster.as_deref(), file.trials[1].direction.as_deref()), (Some("c"), Some("d")));
        assert_eq!(file.trials[0].target, Target { correct: 2, incorrect: None });
        let bad: Vec<_> = file.bad_lines.iter().map(|bad| (bad.line, bad.error.to_string())).collect();
        let object = "malformed JSON: a line is one object, {…}";
        assert_eq!(
            bad,
            [
                (4, "t.jsonl:4: malformed JSON: expected value (column 10)".into()),
                (6, format!("t.jsonl:6: {object}")),
                (7, format!("t.jsonl:7: {object}")),
                (9, "t.jsonl:9: not UTF-8 at byte 8".into()),
            ]
        );
        assert_eq!(file.sha256, format!("{:x}", Sha256::digest(&bytes)));
        assert!(file.notes.is_empty());
    }

    #[test]
    fn a_file_without_lines_is_refused() {
        for bytes in [&b""[..], b"\n \r\n", b"\xef\xbb\xbf\n"] {
            let error = read_bytes(bytes, None, TrialOptions::default()).unwrap_err();
            assert!(error.to_string().ends_with("t.jsonl: the trial file is empty"), "{error}");
        }
        let reader = PromptReader { tokenizer: None, d_vocab: 1, n_ctx: 1 };
        let error = TrialFile::read(Path::new("no/t.jsonl"), &reader, TrialOptions::default()).unwrap_err();
        assert!(error.to_string().starts_with("cannot read no/t.jsonl: "), "{error}");
    }

    #[test]
    fn each_mistake_has_its_message() {
        assert_eq!(
            problem(r#"{"base":{"text":"x"},"target":{"correct":1},"traget":1}"#),
            "t.jsonl:1: unknown field `traget`, expected one of `id`, `cluster`, `direction`, `base`, `source`, `target` \
             (column 52)"
        );
        assert_eq!(
            problem(r#"{"base":{"text":"x"},"target":{"correct":1,"wrong":2}}"#),
            "t.jsonl:1: unknown field `wrong`, expected `correct` or `incorrect` (column 50)"
        );
        assert_eq!(problem(r#"{"base":{"text":"x"}}"#), "t.jsonl:1: missing field `target` (column 21)");
        assert_eq!(
            problem(r#"{"base":{"text":"x"},"base":{"text":"x"},"target":{"correct":1}}"#),
            "t.jsonl:1: duplicate field `base` (column 27)"
        );
        assert_eq!(problem(r#"{"base":{"text":"#), "t.jsonl:1: malformed JSON: EOF while parsing a value (column 16)");
        assert_eq!(problem(r#"{"base":{"text":""},"target":{"correct":1}}"#), "t.jsonl:1: base: the prompt is empty");
        assert_eq!(
            problem(r#"{"base":{"text":"x"},"source":{"tokens":[999]},"target":{"correct":1}}"#),
            "t.jsonl:1: source: token id 999 is not in the model's vocabulary of 265"
        );
        assert_eq!(
            problem(r#"{"base":{"text":"x"},"target":{"correct":" sheet"}}"#),
            "t.jsonl:1: target.correct: \" sheet\" is 3 tokens after the prompt: \" she\" (258), \"e\" (68), \"t\" (83)"
        );
        assert_eq!(
            problem(r#"{"base":{"text":"x"},"target":{"correct":" she","incorrect":258}}"#),
            "t.jsonl:1: target.correct and target.incorrect are the same token, 258"
        );
        assert_eq!(
            problem(r#"{"base":{"text":"x","answer":" he"},"target":{"correct":" she"}}"#),
            "t.jsonl:1: base.answer is not target.correct"
        );
        let twice = r#"{"id":"a","base":{"text":"x"},"target":{"correct":1}}"#;
        assert_eq!(problem(&format!("{twice}\n{twice}")), "t.jsonl:2: the id `a` is taken by line 1");
    }

    #[test]
    fn the_first_of_several_tokens_is_taken_when_asked_for() {
        let tokenizer = testing::byte_level();
        let line = r#"{"base":{"text":"x"},"target":{"correct":" sheet","incorrect":" he"}}"#;
        let options = TrialOptions { first_token: true, ..TrialOptions::default() };
        let file = read_bytes(line.as_bytes(), Some(&tokenizer), options).unwrap();
        assert_eq!(file.trials[0].target, Target { correct: 258, incorrect: Some(260) });
        let text = "target.correct \" sheet\" is 3 tokens; the first, 258, is used".into();
        assert_eq!(file.notes, [Note { line: 1, text }]);
    }

    #[test]
    fn swapping_runs_each_trial_the_other_way_round() {
        let tokenizer = testing::byte_level();
        let read = |line: &str| {
            let options = TrialOptions { swap: true, ..TrialOptions::default() };
            read_bytes(line.as_bytes(), Some(&tokenizer), options).unwrap().trials
        };
        let trials = read(
            r#"{"id":"t","cluster":"c","direction":"d","base":{"text":"a"},"source":{"text":"bb","spans":{"s":[[0,1]]}},
                "target":{"correct":" she","incorrect":" he"}}"#
                .replace('\n', " ")
                .as_str(),
        );
        let [one, other] = &trials[..] else { panic!("{trials:?}") };
        assert_eq!((&one.id[..], &other.id[..]), ("t", "t~swap"));
        assert_eq!((&other.base, other.source.as_ref()), (one.source.as_ref().unwrap(), Some(&one.base)));
        assert_eq!(one.target, Target { correct: 258, incorrect: Some(260) });
        assert_eq!(other.target, Target { correct: 260, incorrect: Some(258) });
        assert_eq!((one.source_answer, other.source_answer), (None, Some(258)));
        assert_eq!((other.cluster.as_deref(), other.direction.as_deref()), (Some("c"), Some("d~swap")));

        // Same answer by different rules: the targets stay.
        let trials = read(
            r#"{"base":{"text":"a"},"source":{"text":"b","answer":" she"},"target":{"correct":" she","incorrect":" he"}}"#,
        );
        assert_eq!(trials[1].target, Target { correct: 258, incorrect: Some(260) });
        assert_eq!((trials[0].source_answer, trials[1].direction.as_deref()), (Some(258), Some("swap")));
    }

    #[test]
    fn what_cannot_be_swapped_is_refused() {
        let swap = TrialOptions { swap: true, ..TrialOptions::default() };
        let refused = |line: &str| problems(line, swap).concat();
        assert_eq!(
            refused(r#"{"base":{"text":"a"},"target":{"correct":1,"incorrect":2}}"#),
            "t.jsonl:1: it has no `source`, so it cannot be swapped"
        );
        assert_eq!(
            refused(r#"{"base":{"text":"a"},"source":{"text":"b"},"target":{"correct":1}}"#),
            "t.jsonl:1: it has no target.incorrect, so it cannot be swapped"
        );
        assert_eq!(
            refused(r#"{"base":{"text":"a"},"source":{"text":"b","answer":3},"target":{"correct":1,"incorrect":2}}"#),
            "t.jsonl:1: source.answer is neither of its targets, so it cannot be swapped"
        );
        assert_eq!(
            refused(r#"{"base":{"text":"a"},"source":{"text":"b "},"target":{"correct":"c","incorrect":"he"}}"#),
            "t.jsonl:1: target.incorrect after source: \"he\" changes how the prompt is tokenised: its end \" \" (220) \
             becomes \" he\" (260)"
        );
    }
}
