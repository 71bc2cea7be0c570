//! Rewards as a stream: one answer per line, at once, and fast.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use interp_core::eval::Composer;
use serde_json::{Value, json};

use super::sample;
use crate::common::command;

/// A running `interp eval reward`.
struct Stream {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Stream {
    fn start(flags: &[&str]) -> Self {
        let mut command = command();
        command.args(["eval", "reward"]).args(flags);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let (input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Self { child, input, output: BufReader::new(output) }
    }

    /// Writes one line and waits for its answer, with the input still open.
    fn ask(&mut self, line: &[u8]) -> Value {
        self.input.write_all(line).and_then(|()| self.input.write_all(b"\n")).expect("it reads");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("it answers");
        serde_json::from_str(&answer).expect("JSON")
    }

    fn end(mut self) -> Option<i32> {
        drop(self.input);
        self.child.wait().expect("it ends").code()
    }
}

fn line() -> Value {
    json!({
        "id": 7,
        "completion": "The hypoxia pathway is upregulated in muscle. Confidence: 90%",
        "ground_truth": {"pathway": "HALLMARK_HYPOXIA", "direction": "UP", "expected_confidence": "high"},
        "question_type": "direction",
        "applicable_verifiers": ["V1", "V4"],
    })
}

#[test]
fn every_line_is_answered_at_once_and_in_order() {
    let mut stream = Stream::start(&[]);
    let answer = stream.ask(line().to_string().as_bytes());
    // 0.35 and 0.20, renormalised over V1 and V4.
    let (v1, v4) = (0.8 + 0.2 * 0.75, 1.0 - (0.9f64 - 1.0).abs() * 2.0);
    assert_eq!(answer["rewards"], json!({"V1": v1, "V2": null, "V3": null, "V4": v4}));
    let (a, b) = (0.35 / (0.35 + 0.20), 0.20 / (0.35 + 0.20));
    assert_eq!(answer["reward"], json!(v1 * a + v4 * b));
    assert_eq!(
        (&answer["id"], &answer["confidence"], &answer["confidence_stated"]),
        (&json!(7), &json!(0.9), &json!("high"))
    );

    // As TRL hands them over: strings of JSON, and chat messages.
    let mut strings = line();
    strings["ground_truth"] = json!(strings["ground_truth"].to_string());
    strings["applicable_verifiers"] = json!("[\"V1\", \"V4\"]");
    strings["completion"] = json!([{"role": "assistant", "content": line()["completion"]}]);
    assert_eq!(stream.ask(strings.to_string().as_bytes()), answer);

    let bare = stream.ask(b"{\"completion\": \"\"}");
    assert_eq!(
        (&bare["reward"], &bare["rewards"]["V1"]),
        (&json!(1.0), &Value::Null),
        "V4 alone: confidence 0.5 is best"
    );
    assert_eq!(stream.end(), Some(0));
}

#[test]
fn a_line_that_cannot_be_used_is_answered_and_remembered() {
    let mut stream = Stream::start(&["--verifiers", "V1"]);
    let mut unknown = line();
    unknown["applicable_verifiers"] = json!(["V5"]);
    let mut pathway = line();
    pathway["ground_truth"] = json!({"pathway": 3});
    for (bytes, error) in [
        (b"{\"x\": 1}".to_vec(), "field `completion`: missing"),
        (b"{\"completion\": \"\xff\"}".to_vec(), "line 2: not UTF-8 at byte 17"),
        (unknown.to_string().into_bytes(), "field `applicable_verifiers`: no such verifier: \"V5\""),
        (pathway.to_string().into_bytes(), "field `ground_truth.pathway`: must be a string, found 3"),
        (b"[]".to_vec(), "line 5: malformed JSON"),
        (b"{\"completion\": NaN}".to_vec(), "line 6: field `completion` is NaN, which is no number"),
    ] {
        let answer = stream.ask(&bytes);
        assert!(answer["error"].as_str().unwrap().contains(error), "{answer} {error}");
        assert_eq!(answer["error"].as_str().unwrap().matches("line ").count(), 1, "{answer}");
    }
    assert_eq!(stream.ask(line().to_string().as_bytes())["reward"], json!(0.8 + 0.2 * 0.75));
    // A megabyte of text is a text like another.
    let mut long = line();
    long["completion"] = json!("hypoxia is up, not down. ".repeat(40_000));
    assert!(stream.ask(long.to_string().as_bytes())["reward"].is_number());
    assert_eq!(stream.end(), Some(2));
}

#[test]
fn wrong_flags_are_refused_before_anything_is_read() {
    for (flags, message) in [
        (["--verifiers", "V1,V7"], "error: verifier `V7`: no such verifier\n"),
        (["--verifier-weights", "1,2"], "error: weights `1,2`: not four numbers\n"),
        (["--verifier-weights", "0,0,0,0"], "error: weights `0,0,0,0`: weights are 0 or more"),
        (["--extractor", "best"], "error: extractor `best`: no such confidence extractor\n"),
        (["--v4-mode", "new"], "error: V4 mode `new`: no such mode\n"),
    ] {
        let output = command().args(["eval", "reward"]).args(flags).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.starts_with(message) && said.contains("\nhint: "), "{said}");
    }
}

/// A completion of ordinary length.
fn paragraph(i: usize) -> String {
    let way = ["upregulated", "suppressed", "not significantly increased"][i % 3];
    format!(
        "Based on the gene set enrichment analysis, the hypoxia pathway is {way} in mouse thymus during spaceflight. The \
         normalized enrichment score of {i} indicates that its genes move together. This likely reflects the response to \
         altered oxygen, although limited evidence exists for other missions; hypoxic signalling may be reduced elsewhere. \
         Confidence: {}%",
        i % 101
    )
}

#[test]
fn a_hundred_thousand_samples_take_less_than_ten_seconds_on_one_core() {
    if cfg!(debug_assertions) {
        println!("SKIPPED: throughput is measured on release builds (cargo test --release)");
        return;
    }
    let samples: Vec<_> = (0..1000).map(|i| sample(&paragraph(i), "UP")).collect();
    let composer = Composer::default();
    let start = Instant::now();
    let sum: f64 = (0..100).flat_map(|_| &samples).map(|sample| composer.reward(sample).total).sum();
    let taken = start.elapsed();
    println!("100,000 samples of {} characters: {taken:.2?} (mean reward {:.3})", paragraph(0).len(), sum / 1e5);
    assert!(taken < Duration::from_secs(10), "{taken:?}");
}

#[test]
fn a_streamed_sample_takes_less_than_a_millisecond() {
    if cfg!(debug_assertions) {
        println!("SKIPPED: latency is measured on release builds (cargo test --release)");
        return;
    }
    let mut stream = Stream::start(&[]);
    let mut line = line();
    let mut times: Vec<Duration> = (0..2000)
        .map(|i| {
            line["completion"] = json!(paragraph(i));
            let bytes = line.to_string().into_bytes();
            let start = Instant::now();
            stream.ask(&bytes);
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("one streamed sample: {:.0?} (median), {:.0?} (95 %)", times[1000], times[1900]);
    assert_eq!(stream.end(), Some(0));
    assert!(times[1000] < Duration::from_millis(1), "{:?}", times[1000]);
}

/// Runs the recipe's reward functions as TRL calls them.
const RECIPE: &str = r#"
import json, sys
sys.path.insert(0, sys.argv[1])
from rewards import Verifiers
verifiers = Verifiers(sys.argv[2])
truth = json.dumps({"pathway": "HALLMARK_HYPOXIA", "direction": "UP", "expected_confidence": "high"})
batch = {"prompts": ["?", "?"], "ground_truth": [truth, truth], "question_type": ["direction", "direction"],
         "applicable_verifiers": ['["V1", "V4"]', '["V4"]'], "trainer_state": None}
completions = [[{"role": "assistant", "content": "The hypoxia pathway is upregulated. Confidence: 90%"}], "down. Confidence: 90%"]
rewards = {f.__name__: f(completions=completions, **batch) for f in verifiers.functions()}
print(json.dumps([rewards, verifiers.weights, verifiers.close()]))
"#;

#[test]
fn the_recipe_gives_trl_these_rewards() {
    let recipes = crate::common::fixture("recipes");
    let mut python = std::process::Command::new("python3");
    python.arg("-c").arg(RECIPE).arg(&recipes).arg(env!("CARGO_BIN_EXE_interp")).env("PYTHONDONTWRITEBYTECODE", "1");
    let Ok(output) = python.output() else {
        println!("SKIPPED: there is no python3");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (v1, right) = (0.8 + 0.2 * 0.75, 1.0 - (0.9f64 - 1.0).abs() * 2.0);
    assert_eq!(found[0]["reward_V1"], json!([v1, null]));
    assert_eq!(found[0]["reward_V2"], json!([null, null]));
    // The second says nothing of the pathway: V1 gives it 0.3, so confidence should be 0.
    assert_eq!(found[0]["reward_V4"], json!([right, 0.2]));
    assert_eq!((&found[1], &found[2]), (&json!([0.3, 0.15, 0.1, 0.45]), &json!(0)));
}
