//! The processes and phrases that come with the tool.

use std::path::Path;

use super::perturb::Phrases;
use super::process::{Process, processes};
use crate::error::{Error, Result};

const FILES: [(&str, &str); 3] = [
    ("laboratory.toml", include_str!("processes/laboratory.toml")),
    ("inspection.toml", include_str!("processes/inspection.toml")),
    ("billing.toml", include_str!("processes/billing.toml")),
];

/// Processes of laboratory safety, inspections and billing.
pub fn builtin_processes() -> Result<Vec<Process>> {
    FILES.iter().try_fold(Vec::new(), |mut all, (path, text)| {
        all.extend(processes(Path::new(path), text)?);
        Ok(all)
    })
}

/// Distractors for these domains, and cues.
pub fn builtin_phrases() -> Result<Phrases> {
    phrases(Path::new("phrases.toml"), include_str!("processes/phrases.toml"))
}

/// Phrases of a TOML text. `path` is for errors.
pub fn phrases(path: &Path, text: &str) -> Result<Phrases> {
    let hint = Some("it needs [distractors], a list per domain, and [cues] with four lists".into());
    let phrases: Phrases = toml::from_str(text).map_err(|error| Error::File {
        path: path.into(),
        problem: error.to_string().trim_end().into(),
        hint,
    })?;
    let cues = &phrases.cues;
    let lists = [&cues.compliance_prefix, &cues.compliance_sentence, &cues.violation_prefix, &cues.violation_sentence];
    if lists.into_iter().chain(phrases.distractors.values()).any(Vec::is_empty) {
        let hint = Some("give every list at least one phrase".into());
        return Err(Error::File { path: path.into(), problem: "a list of phrases is empty".into(), hint });
    }
    Ok(phrases)
}
