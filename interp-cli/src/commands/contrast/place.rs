//! Where a contrast goes: labels that can be folders, and a folder that holds nothing of anybody else.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use interp_core::{Error, Result};
use serde_json::Value;

/// What the `run.json` of a contrast begins with.
pub const SCHEMA: &str = "interp.contrast_run/1";

/// Errs for labels that are no folder names, or that a file system may take for the same.
pub fn labels(names: &[String]) -> Result<()> {
    for (i, name) in names.iter().enumerate() {
        let refuse = |problem: &str, hint: &str| {
            let (value, problem, hint) = (name.clone(), problem.into(), Some(hint.into()));
            Err(Error::Selector { what: "checkpoint", value, problem, hint })
        };
        let legal = |c: char| !c.is_control() && !['/', '\\', ':', '"'].contains(&c);
        if name.is_empty() || name.len() > 100 || name.starts_with('.') || is_file(name) || !name.chars().all(legal) {
            return refuse("its name cannot be a folder's", "write NAME=CHECKPOINT");
        }
        if names[..i].iter().any(|earlier| earlier.eq_ignore_ascii_case(name)) {
            return refuse("two checkpoints have this name", "write NAME=CHECKPOINT to tell them apart");
        }
    }
    Ok(())
}

/// Whether a contrast writes a file of that name.
fn is_file(name: &str) -> bool {
    name == "run.json" || name.starts_with("contrast.")
}

/// Errs unless the folder is new or empty, or holds a contrast, or what one leaves that was stopped.
pub fn check(out: &Path, names: &[String]) -> Result<()> {
    let refuse = |problem: String| {
        Err(Error::File { path: out.into(), problem, hint: Some("give a new or an empty folder".into()) })
    };
    if out.is_file() {
        return refuse("is a file, not a folder".into());
    }
    let run = out.join("run.json");
    match fs::read(&run) {
        Ok(text) => {
            let found: Option<Value> = serde_json::from_slice(&text).ok();
            return match found {
                Some(run) if run["schema"] == SCHEMA => Ok(()),
                _ => refuse("holds another run".into()),
            };
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("read", run)(error)),
    }
    let entries = match fs::read_dir(out) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Error::io("read", out))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        found.push(entry.map_err(Error::io("read", out))?.file_name().to_string_lossy().into_owned());
    }
    let foreign = |name: &&String| !names.contains(name) && !is_file(name.trim_start_matches('.'));
    match found.iter().filter(foreign).min() {
        Some(name) => refuse(format!("not empty and not an output folder of interp contrast (holds `{name}`)")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_folder_names_and_differ() {
        let said = |names: &[&str]| {
            labels(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
                .err()
                .map(|error| error.to_string())
        };
        assert_eq!(said(&["base", "B5 (sft)", "v7-grpo_14b.1"]), None);
        for name in ["", ".", "..", ".hidden", "a/b", "run.json", "contrast.csv", "a\nb"] {
            assert!(said(&["base", name]).is_some_and(|said| said.contains("cannot be a folder's")), "{name:?}");
        }
        assert_eq!(said(&["a", "A"]).unwrap(), "checkpoint `A`: two checkpoints have this name");
    }

    #[test]
    fn folders_of_others_are_left_alone() {
        let dir = std::env::temp_dir().join(format!("interp-place-{}", std::process::id()));
        let names = ["a".to_owned(), "b".to_owned()];
        let said =
            || check(&dir, &names).err().map(|error| error.to_string().replace(&dir.display().to_string(), "DIR"));
        assert_eq!(said(), None, "it is not there yet");
        fs::create_dir_all(dir.join("a")).unwrap();
        fs::write(dir.join(".contrast.csv.tmp"), "").unwrap();
        assert_eq!(said(), None, "what a stopped contrast leaves");
        fs::write(dir.join("thesis.tex"), "").unwrap();
        assert!(said().unwrap().ends_with("(holds `thesis.tex`)"));
        fs::write(dir.join("run.json"), r#"{"schema": "interp.run/1"}"#).unwrap();
        assert_eq!(said().unwrap(), "DIR: holds another run");
        fs::write(dir.join("run.json"), format!(r#"{{"schema": "{SCHEMA}"}}"#)).unwrap();
        assert_eq!(said(), None);
        fs::remove_dir_all(&dir).unwrap();
    }
}
