//! Published evaluations: their numbers to the last digit, their definitions as properties, and their files as a user meets them.

mod bad_input;
mod forms;
mod property;
mod published;
mod reward;
mod run;
mod score;

use std::path::PathBuf;

use interp_core::eval::bio::{Baseline, Evaluation, Head, Scored};
use interp_core::eval::{Composer, GroundTruth, Sample, Verifier};
use serde_json::{Value, json};

use crate::common::root;

/// A file of the shared data, or a line that says why a test does nothing.
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = root().parent().expect("a parent").join("shared/data").join(name);
    if !path.exists() {
        println!("SKIPPED: {} is not there", path.display());
        return None;
    }
    Some(path)
}

/// A sample about one pathway.
pub fn sample(completion: &str, direction: &str) -> Sample {
    let truth = GroundTruth {
        pathway: Some("HALLMARK_HYPOXIA".into()),
        direction: Some(direction.into()),
        expected_confidence: Some("high".into()),
        ..GroundTruth::default()
    };
    Sample {
        completion: completion.into(),
        truth,
        question_type: "direction".into(),
        applicable: Verifier::ALL.to_vec(),
    }
}

/// A small evaluation whose file claims what is true.
pub fn evaluation() -> Evaluation {
    let composer = Composer::default();
    let answers = ["is upregulated. Confidence: 90%", "is suppressed. Confidence: 30%", "may be higher, it is unclear"];
    let scored = |(i, text): (usize, &&str)| Scored {
        id: Some(format!("q{i}")),
        prompt: "Is hypoxia up or down?".into(),
        ..Scored::from((&composer, &sample(&format!("The hypoxia pathway {text}."), "UP")))
    };
    Evaluation {
        head: Head {
            model_path: "here".into(),
            base_model: "there".into(),
            evaluation_date: Value::Null,
            hold_out_tissues: vec![],
            dataset: json!({"total": 3, "by_question_type": {"direction": 3}}),
        },
        baseline: Some(Baseline { reward: 0.25, ece: 0.5 }),
        samples: answers.iter().enumerate().map(scored).collect(),
    }
}
