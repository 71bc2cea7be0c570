//! The program as a user meets it: every refusal with its exact words and exit code, every way a run can be stopped.

mod adapter;
mod bad_input;
mod contrast;
mod cumulative;
mod donor;
mod floor;
mod stats;
mod stops;
mod verify;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::common::fixture;
use crate::run_folder::files;

/// A folder in which the program runs, with a few trials in `trials.jsonl`.
pub struct Place {
    dir: TempDir,
    cache: TempDir,
}

/// How a command ended, with the model's path as MODEL, and without what a sweep says of its noise floor and its cost, which
/// is another every time.
#[derive(Debug, PartialEq)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The small trained checkpoint.
pub fn model() -> String {
    fixture("identity-rules/model").display().to_string()
}

impl Place {
    /// With the first four of the token pairs.
    pub fn new() -> Self {
        Self::with_trials(4)
    }

    /// With the first `n` of the token pairs.
    pub fn with_trials(n: usize) -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap(), cache: tempfile::tempdir().unwrap() };
        let all = fs::read_to_string(fixture("identity-rules/token-pairs.jsonl")).unwrap();
        place.write("trials.jsonl", all.split_inclusive('\n').take(n).collect::<String>());
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Names in the folder.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = files(self.dir.path()).into_keys().collect();
        names.sort();
        names
    }

    /// The files of one output folder that are the same whenever and wherever the run is made.
    pub fn out(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let mut files = files(&self.path(name));
        files.remove("timing.json");
        files
    }

    /// A copy of the checkpoint that may be spoilt.
    pub fn copy_model(&self, name: &str) {
        fs::create_dir(self.path(name)).unwrap();
        for entry in fs::read_dir(model()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), self.path(name).join(entry.file_name())).unwrap();
        }
    }

    /// Readies the program to run in the folder. A backtrace is asked for, to show that none is printed.
    pub fn interp(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_interp"));
        command.args(arguments).current_dir(self.dir.path()).env("RUST_BACKTRACE", "1");
        command.env("XDG_CACHE_HOME", self.cache.path()).env("HF_HUB_OFFLINE", "1");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        ended(&mut self.interp(arguments))
    }

    /// `interp sweep` with these flags; model, trials and output folder are given where they are not among them.
    pub fn sweep(&self, flags: &[&str]) -> Ended {
        let model = model();
        self.run(&with_defaults(&model, flags))
    }

    /// The sweep must fail with this on stderr, and leave nothing behind.
    pub fn refuses(&self, flags: &[&str], stderr: &str) {
        let before = self.names();
        let ended = self.sweep(flags);
        assert_eq!(ended, Ended { code: Some(2), stdout: String::new(), stderr: format!("{stderr}\n") }, "{flags:?}");
        assert_eq!(self.names(), before, "{flags:?} left something");
    }
}

/// `sweep`, the flags, and defaults for those that every sweep needs.
pub fn with_defaults<'a>(model: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["sweep", "--threads", "1"];
    let defaults = [("--model", model), ("--trials", "trials.jsonl"), ("--out", "out")];
    let spec = flags.contains(&"--spec");
    for (flag, value) in defaults {
        if !flags.contains(&flag) && (flag == "--out" || !spec) {
            arguments.extend([flag, value]);
        }
    }
    arguments.extend(flags);
    arguments
}

pub fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&model(), "MODEL");
    let varies = |line: &str| ["noise floor (", "time: ", "memory: "].iter().any(|start| line.starts_with(start));
    let stderr = text(output.stderr).split_inclusive('\n').filter(|line| !varies(line)).collect();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr }
}

pub fn done(stdout: &str) -> Ended {
    Ended { code: Some(0), stdout: stdout.into(), stderr: String::new() }
}

/// Changes one file.
pub fn alter(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}
